//! From a proxy's name to a connection: resolve, and race its addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::fault::Fault;
use super::tcp;
use super::timing::Timing;
use crate::metadata::document::Proxy;

/// Connects to the first of the proxy's addresses that answers and is not `dead`. The name is
/// resolved anew. `again` begins anew as well: after news, the kernel's next try of a connection
/// may be seconds away.
pub(super) async fn dial(
    proxy: &Proxy,
    segment: Option<u32>,
    dead: &[IpAddr],
    again: &Notify,
    timing: &Timing,
) -> Result<TcpStream, Fault> {
    let late = || Fault::DialTimeout {
        proxy: proxy.to_string(),
        after: timing.dial,
    };
    timeout(timing.dial, async {
        loop {
            tokio::select! {
                dialled = once(proxy, segment, dead, timing) => return dialled,
                () = again.notified() => {}
            }
        }
    })
    .await
    .map_err(|_| late())?
}

async fn once(
    proxy: &Proxy,
    segment: Option<u32>,
    dead: &[IpAddr],
    timing: &Timing,
) -> Result<TcpStream, Fault> {
    let unresolved = |detail: String| Fault::NameNotResolved {
        host: proxy.host.clone(),
        detail,
    };
    let addresses: Vec<SocketAddr> = lookup_host((proxy.host.as_str(), proxy.port))
        .await
        .map_err(|error| unresolved(error.to_string()))?
        .filter(|address| !dead.contains(&address.ip()))
        .collect();
    if addresses.is_empty() {
        return Err(unresolved("it has no other address".to_owned()));
    }
    race(proxy, segment, interleave(&addresses), timing.dial_stagger).await
}

/// The addresses of both families by turns, in the resolver's order otherwise (RFC 8305, 4): a
/// family that is broken on this network costs one head start.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let of = |v6| {
        addresses
            .iter()
            .filter(move |address| address.is_ipv6() == v6)
    };
    let (mut ones, mut others) = (of(first), of(!first));
    let mut mixed = Vec::with_capacity(addresses.len());
    while mixed.len() < addresses.len() {
        mixed.extend(ones.next());
        mixed.extend(others.next());
    }
    mixed
}

/// Connects to the first address that answers; each has a head start over the next.
async fn race(
    proxy: &Proxy,
    segment: Option<u32>,
    addresses: Vec<SocketAddr>,
    head_start: Duration,
) -> Result<TcpStream, Fault> {
    let mut waiting = addresses.into_iter();
    let mut racing = JoinSet::new();
    let mut failures = Vec::new();
    let start = |racing: &mut JoinSet<_>, address: SocketAddr| {
        racing.spawn(async move { (address, tcp::connect(address, segment).await) });
    };
    loop {
        if racing.is_empty() {
            match waiting.next() {
                Some(address) => start(&mut racing, address),
                None => {
                    let detail = failures.join("; ");
                    return Err(Fault::DialFailed {
                        proxy: proxy.to_string(),
                        detail,
                    });
                }
            }
        }
        tokio::select! {
            Some(Ok((address, result))) = racing.join_next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push(format!("{}: {error}", address.ip())),
            },
            () = sleep(head_start) => {
                if let Some(address) = waiting.next() {
                    start(&mut racing, address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_nothing_is_lost() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let all = |texts: &[&str]| texts.iter().map(|text| address(text)).collect::<Vec<_>>();
        for (resolved, raced) in [
            (&[][..], &[][..]),
            (&["192.0.2.1:22"], &["192.0.2.1:22"]),
            (
                &["[2001:db8::1]:22", "[2001:db8::2]:22", "192.0.2.1:22"],
                &["[2001:db8::1]:22", "192.0.2.1:22", "[2001:db8::2]:22"],
            ),
            (
                &["192.0.2.1:22", "192.0.2.2:22", "192.0.2.3:22"],
                &["192.0.2.1:22", "192.0.2.2:22", "192.0.2.3:22"],
            ),
        ] {
            assert_eq!(interleave(&all(resolved)), all(raced));
        }
    }
}
