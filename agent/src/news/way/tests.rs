use proptest::prelude::*;

use super::*;

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn loopback_is_reached_over_an_interface_that_runs_and_from_itself() {
    let kernel = Kernel::new().unwrap();
    let way = kernel.way([127, 0, 0, 1].into()).unwrap();
    assert!(way.runs);
    assert_eq!(way.gateway, None);
    assert_eq!(way.source, Some(vec![127, 0, 0, 1]));
    let name = nix::net::if_::if_nametoindex("lo").unwrap();
    assert_eq!(way.interface, name);
}

#[tokio::test]
async fn what_does_not_change_is_no_news() {
    let mut ways = Ways::default();
    ways.follow(addresses(&["127.0.0.1", "192.0.2.1", "2001:db8::1"]))
        .await;
    assert_eq!(ways.0.len(), 3);
    assert!(!ways.changed().await);
}

#[tokio::test]
async fn another_address_of_interest_hides_no_change() {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let mut ways = Ways::default();
    // As if there had been no way before.
    ways.0.insert(loopback, None);
    ways.follow(addresses(&["127.0.0.1", "127.0.0.2"])).await;
    assert!(ways.changed().await);
    assert!(!ways.changed().await);
    // Of no interest any more.
    ways.0.insert(loopback, None);
    ways.follow(addresses(&["127.0.0.2"])).await;
    assert!(!ways.changed().await);
}

#[test]
fn a_documentation_address_stands_in_for_each_family_without_a_known_address() {
    let targets = Targets::default();
    let of_interest = || of_interest(&targets.watch().borrow());
    assert_eq!(of_interest(), BTreeSet::from(ANYWHERE));
    let (one, two) = ("198.51.100.7:22", "[2001:db8::7]:22");
    let parse = |texts: &[&str]| -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    targets.resolved("a", &parse(&[one]));
    assert_eq!(of_interest(), addresses(&["198.51.100.7", "2001:db8::1"]));
    let mapped = "::ffff:198.51.100.7";
    targets.resolved("a", &parse(&[&format!("[{mapped}]:22")]));
    assert_eq!(of_interest(), addresses(&[mapped, "2001:db8::1"]));
    targets.resolved("a", &parse(&[one]));
    targets.resolved("b", &parse(&[two]));
    assert_eq!(of_interest(), addresses(&["198.51.100.7", "2001:db8::7"]));
    targets.resolved("a", &parse(&[two]));
    assert_eq!(of_interest(), addresses(&["192.0.2.1", "2001:db8::7"]));
    targets.clear();
    assert_eq!(of_interest(), BTreeSet::from(ANYWHERE));
}

#[test]
fn the_same_addresses_again_wake_nobody() {
    let targets = Targets::default();
    let mut watch = targets.watch();
    let address: SocketAddr = "198.51.100.7:22".parse().unwrap();
    targets.clear();
    assert!(!watch.has_changed().unwrap());
    targets.resolved("a", &[address]);
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    targets.resolved("a", &[address, address]);
    assert!(!watch.has_changed().unwrap());
}

proptest! {
    #[test]
    fn no_message_is_too_odd(bytes: Vec<u8>) {
        let total: usize = attributes(&bytes).values().map(|value| value.len()).sum();
        prop_assert!(total <= bytes.len());
    }
}
