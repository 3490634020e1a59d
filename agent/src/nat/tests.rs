use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::routes::Family;
use super::*;

/// Addresses on eth0, to which both families' default routes lead.
fn inputs(addresses: &[&str], public: PublicAddress) -> Inputs {
    of(
        addresses.iter().map(|address| address.parse().unwrap()),
        public,
    )
}

fn of(addresses: impl IntoIterator<Item = IpAddr>, public: PublicAddress) -> Inputs {
    let interface = || "eth0".to_owned();
    let route = |family| Route {
        family,
        metric: 100,
        interface: interface(),
    };
    let addresses = addresses.into_iter().map(|ip| Address {
        ip,
        interface: interface(),
    });
    Inputs {
        addresses: addresses.collect(),
        routes: [route(Family::V4), route(Family::V6)].into(),
        public,
        public_source: (public != PublicAddress::Unknown).then_some(SourceName::Ec2),
    }
}

fn own(address: &str) -> PublicAddress {
    PublicAddress::Own(address.parse().unwrap())
}

fn balancer(address: &str) -> PublicAddress {
    PublicAddress::LoadBalancer(address.parse().unwrap())
}

#[test]
fn every_rule_of_the_verdict() {
    use NatVerdict::{Direct, Nat, OneToOne, Unknown};
    use PublicAddress::None;
    let silent = PublicAddress::Unknown;
    let rows: &[(&[&str], PublicAddress, NatVerdict, &str)] = &[
        // EC2: the public address is never on the interface; 404 where there is none.
        (
            &["172.31.5.9", "fe80::1"],
            own("198.51.100.7"),
            OneToOne,
            "ec2 names 198.51.100.7, which is mapped to 172.31.5.9 on eth0",
        ),
        (
            &["172.31.5.9"],
            None,
            Nat,
            "eth0 has 172.31.5.9, a private address, and ec2 has no public one",
        ),
        (
            &["172.31.5.9", "2a05:d014::9"],
            None,
            Nat,
            "of use to IPv6 clients only",
        ),
        // The same with nothing but IPv6.
        (&["2a05:d014::9", "fe80::9"], None, Direct, "and no IPv4"),
        (
            &["2a05:d014::9"],
            own("2a05:d014::9"),
            Direct,
            "which is on eth0",
        ),
        // DigitalOcean and Hetzner: it is on the interface, beside private ones.
        (
            &["198.51.100.7", "10.19.0.5", "fe80::1"],
            own("198.51.100.7"),
            Direct,
            "ec2 names 198.51.100.7, which is on eth0",
        ),
        // OpenStack without a floating IP, on a network of the provider's and on one's own.
        (
            &["198.51.100.7"],
            None,
            Direct,
            "eth0 has the global address 198.51.100.7",
        ),
        (
            &["192.168.0.7"],
            None,
            Nat,
            "192.168.0.7, a private address",
        ),
        // What a private cloud calls public is not.
        (
            &["10.0.0.5"],
            own("172.24.4.9"),
            Nat,
            "and 172.24.4.9, which ec2 names, is a private address as well",
        ),
        // Azure: an address of a load balancer, which may be this guest's own or not.
        (
            &["10.0.0.4"],
            balancer("198.51.100.7"),
            Unknown,
            "but that is a load balancer's",
        ),
        (&["10.0.0.4"], balancer("10.0.0.9"), Nat, "10.0.0.9"),
        (
            &["198.51.100.8"],
            balancer("198.51.100.7"),
            Direct,
            "the global address 198.51.100.8",
        ),
        // No metadata service, or none that knows.
        (
            &["10.0.2.15", "fe80::1", "fec0::2"],
            silent,
            Nat,
            "eth0 has 10.0.2.15, a private address, and no metadata names a public one",
        ),
        (
            &["172.16.0.9"],
            silent,
            Nat,
            "172.16.0.9, a private address",
        ),
        (
            &["100.64.3.4"],
            silent,
            Nat,
            "100.64.3.4, an address behind a carrier's NAT",
        ),
        (
            &["169.254.1.1"],
            silent,
            Nat,
            "169.254.1.1, a link-local address",
        ),
        (
            &["fe80::5", "fd12::5"],
            silent,
            Nat,
            "fd12::5, a unique local address",
        ),
        (&["198.18.0.1"], silent, Nat, "for special purposes"),
        (&["2001:0:1::5"], silent, Nat, "2001:0:1::5"),
        (
            &["198.51.100.7", "fd00::1"],
            silent,
            Direct,
            "the global address 198.51.100.7",
        ),
        // Dual stack.
        (
            &["192.168.1.2", "2a01:db8::5"],
            silent,
            Nat,
            "eth0 has 192.168.1.2, a private address; 2a01:db8::5 is global",
        ),
        (
            &["192.168.1.2", "2a01:db8::5"],
            own("198.51.100.7"),
            OneToOne,
            "mapped to 192.168.1.2",
        ),
        (
            &["192.168.1.2", "2a01:db8::5"],
            own("2a01:db8::5"),
            Nat,
            "of use to IPv6 clients only",
        ),
        (&["2a01:db8::5", "fe80::5"], silent, Direct, "and no IPv4"),
        (&[], own("198.51.100.7"), OneToOne, "no interface has it"),
        (
            &[],
            silent,
            Unknown,
            "eth0 has a default route, but no address",
        ),
    ];
    for (addresses, public, expected, sentence) in rows {
        let (verdict, rule) = verdict(&inputs(addresses, *public));
        assert_eq!(verdict, *expected, "{addresses:?} {public:?} {rule}");
        // The address by which it is reached is the one that the rule names.
        let inputs = inputs(addresses, *public);
        let shown = show(&inputs, verdict, &rule, TunnelDecision::NotAsked);
        let reached = matches!(verdict, Direct | OneToOne);
        assert_eq!(shown.address.is_some(), reached, "{rule}");
        assert!(shown.address.is_none_or(|at| rule.contains(&at)), "{rule}");
        assert!(rule.contains(sentence), "{rule}");
    }
}

#[test]
fn a_service_that_does_not_know_proves_nothing() {
    // Azure, whose Standard SKU it shows as "".
    let mut asked = inputs(&["10.0.0.4"], PublicAddress::Unknown);
    asked.public_source = Some(SourceName::Ec2);
    let (verdict_now, rule) = verdict(&asked);
    assert_eq!(verdict_now, NatVerdict::Unknown, "{rule}");
    assert!(rule.contains("ec2 does not tell"), "{rule}");
}

#[test]
fn without_a_default_route_nothing_is_known() {
    let (verdict, rule) = verdict(&Inputs::default());
    assert_eq!(verdict, NatVerdict::Unknown);
    assert_eq!(rule, "there is no default route");
}

fn any_public() -> impl Strategy<Value = PublicAddress> {
    prop_oneof![
        Just(PublicAddress::Unknown),
        Just(PublicAddress::None),
        any::<IpAddr>().prop_map(PublicAddress::Own),
        any::<IpAddr>().prop_map(PublicAddress::LoadBalancer),
    ]
}

/// Addresses that nobody outside can dial, by number.
fn hidden(number: u16) -> [IpAddr; 2] {
    let [a, b] = number.to_be_bytes();
    let first = usize::from(a % 4);
    let v4 = Ipv4Addr::new([10, 172, 192, 100][first], [0, 16, 168, 64][first], a, b);
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number);
    [v4.into(), v6.into()]
}

proptest! {
    #[test]
    fn a_guest_without_a_public_address_anywhere_keeps_its_tunnel(
        numbers in proptest::collection::vec(any::<u16>(), 0..5),
        named: u16,
    ) {
        let [four, six] = hidden(named);
        for public in [
            PublicAddress::Unknown,
            PublicAddress::None,
            PublicAddress::Own(four),
            PublicAddress::Own(six),
            PublicAddress::LoadBalancer(four),
            PublicAddress::LoadBalancer([198, 51, 100, 7].into()),
        ] {
            let inputs = of(numbers.iter().flat_map(|number| hidden(*number)), public);
            let decision = decide(Some(When::Auto), None, verdict(&inputs).0);
            prop_assert_eq!(decision, TunnelDecision::Needed, "{:?}", inputs);
        }
    }

    #[test]
    fn the_metadata_has_the_first_word(addresses: Vec<IpAddr>, last: u8, on_it: bool) {
        let public = IpAddr::from([203, 0, 113, last]);
        let mut addresses = addresses;
        addresses.retain(|address| address.to_canonical() != public);
        addresses.extend(on_it.then_some(public));
        let (verdict, _) = verdict(&of(addresses, PublicAddress::Own(public)));
        prop_assert_eq!(verdict, if on_it { NatVerdict::Direct } else { NatVerdict::OneToOne });
    }

    #[test]
    fn a_load_balancer_never_takes_a_tunnel_down(addresses: Vec<IpAddr>, address: IpAddr) {
        let with = verdict(&of(addresses.clone(), PublicAddress::LoadBalancer(address))).0;
        let without = verdict(&of(addresses, PublicAddress::Unknown)).0;
        let needs = |verdict| decide(Some(When::Auto), None, verdict) == TunnelDecision::Needed;
        prop_assert!(needs(with) || !needs(without));
    }

    #[test]
    fn an_ipv4_address_in_the_clothes_of_ipv6_is_the_same(address: Ipv4Addr, public in any_public()) {
        let of = |address| verdict(&of([address], public));
        prop_assert_eq!(of(IpAddr::V4(address)), of(IpAddr::V6(address.to_ipv6_mapped())));
    }

    #[test]
    fn every_verdict_has_a_rule_and_names_what_it_speaks_of(addresses: Vec<IpAddr>, public in any_public()) {
        let inputs = of(addresses, public);
        let (verdict, rule) = verdict(&inputs);
        prop_assert!(rule.len() > 20 && rule.len() < 200, "{}", rule);
        let shown = show(&inputs, verdict, &rule, TunnelDecision::NotAsked);
        prop_assert_eq!(shown.inputs.addresses.len(), inputs.addresses.len());
        let named = shown.inputs.addresses.iter().chain(&shown.inputs.public_address);
        let canonical = |text: &String| text.parse::<IpAddr>().unwrap().to_canonical().to_string();
        let names_one = named.map(canonical).any(|address| rule.contains(&address));
        prop_assert!(names_one || inputs.addresses.is_empty(), "{}", rule);
    }
}

#[test]
fn the_configuration_goes_over_the_document_and_that_over_the_verdict() {
    use NatVerdict::{Direct, Nat, OneToOne, Unknown};
    use TunnelDecision::{Always, Needed, Never, NotAsked, NotNeeded};
    for verdict in [Direct, OneToOne, Nat, Unknown] {
        let auto = match verdict {
            Nat | Unknown => Needed,
            Direct | OneToOne => NotNeeded,
        };
        let decide = |document, config| super::decide(document, config, verdict);
        assert_eq!(decide(Some(When::Always), None), Always);
        assert_eq!(decide(Some(When::Never), None), Never);
        assert_eq!(decide(Some(When::Auto), None), auto);
        assert_eq!(decide(Some(When::Never), Some(When::Always)), Always);
        assert_eq!(decide(Some(When::Always), Some(When::Never)), Never);
        assert_eq!(decide(Some(When::Never), Some(When::Auto)), auto);
        for config in [
            None,
            Some(When::Auto),
            Some(When::Always),
            Some(When::Never),
        ] {
            assert_eq!(decide(None, config), NotAsked);
        }
    }
}

#[tokio::test]
async fn the_kernel_is_asked_without_fail() {
    let inputs = Inputs::read(&Facts::default()).await;
    assert!(inputs.addresses.iter().all(|own| !own.ip.is_loopback()));
    let (verdict, rule) = verdict(&inputs);
    let shown = show(&inputs, verdict, &rule, TunnelDecision::NotAsked);
    assert_eq!(shown.rule, rule);
    assert_eq!(shown.inputs.interfaces.len(), inputs.addresses.len());
}
