//! From a proxy's name to a connection: resolve, and race its addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::fault::Fault;
use super::plan::Plan;
use super::tcp;
use super::timing::Timing;
use crate::lookup::lookup;
use crate::metadata::document::Proxy;

/// Connects to the first of the proxy's addresses that answers and is not `dead`. The name is
/// resolved each time, and its addresses are published as `targets`. `again` restarts the dial: after
/// news, the kernel's next try of a connection may be seconds away.
pub(super) async fn dial(plan: &Plan, dead: &[IpAddr]) -> Result<TcpStream, Fault> {
    let Plan {
        proxy,
        timing,
        again,
        ..
    } = plan;
    // The deadline of both steps bounds how often news may restart them.
    let both = timeout(timing.lookup + timing.dial, async {
        loop {
            tokio::select! {
                dialled = once(plan, dead) => return dialled,
                () = again.notified() => {}
            }
        }
    });
    both.await.unwrap_or_else(|_| Err(late(proxy, timing)))
}

fn late(proxy: &Proxy, timing: &Timing) -> Fault {
    Fault::DialTimeout {
        proxy: proxy.to_string(),
        after: timing.dial,
    }
}

async fn once(plan: &Plan, dead: &[IpAddr]) -> Result<TcpStream, Fault> {
    let Plan {
        proxy,
        timing,
        targets,
        ..
    } = plan;
    let addresses = resolve(proxy, timing).await?;
    targets.resolved(&proxy.host, &addresses);
    let alive: Vec<_> = addresses
        .into_iter()
        .filter(|address| !dead.contains(&address.ip()))
        .collect();
    if alive.is_empty() {
        return Err(Fault::NameNotResolved {
            host: proxy.host.clone(),
            detail: "it has no other address".to_owned(),
        });
    }
    let racing = race(proxy, plan.segment, interleave(&alive), timing.dial_stagger);
    let raced = timeout(timing.dial, racing).await;
    raced.unwrap_or_else(|_| Err(late(proxy, timing)))
}

/// The proxy's addresses, each with its port.
async fn resolve(proxy: &Proxy, timing: &Timing) -> Result<Vec<SocketAddr>, Fault> {
    let host = &proxy.host;
    let Ok(answer) = timeout(timing.lookup, lookup(host)).await else {
        return Err(Fault::NameTimeout {
            host: host.clone(),
            after: timing.lookup,
        });
    };
    let mut addresses = answer.map_err(|detail| Fault::NameNotResolved {
        host: host.clone(),
        detail,
    })?;
    for address in &mut addresses {
        address.set_port(proxy.port);
    }
    Ok(addresses)
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
