use proptest::prelude::*;

use super::*;

fn inputs(addresses: &[&str], public: Option<&str>) -> Inputs {
    Inputs {
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        public_address: public.map(|address| address.parse().unwrap()),
    }
}

#[test]
fn every_rule_of_the_verdict() {
    use NatVerdict::{Direct, Nat, OneToOne, Unknown};
    let rows: [(&[&str], Option<&str>, NatVerdict, &str); 16] = [
        (
            &["10.0.0.5", "fe80::1"],
            Some("198.51.100.7"),
            OneToOne,
            "not on the interface",
        ),
        (
            &["198.51.100.7"],
            Some("198.51.100.7"),
            Direct,
            "which is on the interface",
        ),
        (&[], Some("198.51.100.7"), OneToOne, "not on the interface"),
        (
            &["198.51.100.7", "fd00::1"],
            None,
            Direct,
            "the global address 198.51.100.7",
        ),
        (
            &["10.0.2.15", "fe80::1", "fec0::2"],
            None,
            Nat,
            "10.0.2.15 can't be dialled",
        ),
        (&["192.168.1.2"], None, Nat, "192.168.1.2"),
        (&["172.16.0.9"], None, Nat, "172.16.0.9"),
        (&["100.64.3.4"], None, Nat, "100.64.3.4"),
        (&["169.254.1.1"], None, Nat, "169.254.1.1"),
        (&["fd12::5"], None, Nat, "fd12::5"),
        (
            &["192.168.1.2", "2a01:db8::5"],
            None,
            Nat,
            "of use to IPv6 clients only",
        ),
        (
            &["192.168.1.2", "2a01:db8::5"],
            Some("198.51.100.7"),
            OneToOne,
            "not on the interface",
        ),
        (&["2a01:db8::5", "fe80::5"], None, Direct, "no IPv4"),
        (&["2001:0:1::5"], None, Nat, "2001:0:1::5"),
        // What a private cloud calls public is not.
        (&["10.0.0.5"], Some("172.24.4.9"), Nat, "10.0.0.5"),
        (&[], None, Unknown, "no interface"),
    ];
    for (addresses, public, expected, sentence) in rows {
        let (verdict, rule) = verdict(&inputs(addresses, public));
        assert_eq!(verdict, expected, "{addresses:?} {public:?} {rule}");
        assert!(rule.contains(sentence), "{rule}");
    }
}

proptest! {
    #[test]
    fn a_guest_without_a_public_address_anywhere_keeps_its_tunnel(
        last in proptest::collection::vec(any::<u16>(), 0..5),
    ) {
        let addresses = last.iter().flat_map(|n| {
            let [a, b] = n.to_be_bytes();
            let v4 = Ipv4Addr::new([10, 172, 192, 100][usize::from(a % 4)], [0, 16, 168, 64][usize::from(a % 4)], a, b);
            [IpAddr::V4(v4), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, *n))]
        });
        let inputs = Inputs { addresses: addresses.collect(), public_address: None };
        prop_assert!(wanted(When::Auto, None, verdict(&inputs).0));
    }

    #[test]
    fn the_metadata_has_the_first_word(addresses: Vec<IpAddr>, last: u8) {
        let public = IpAddr::from([203, 0, 113, last]);
        let (verdict, _) = verdict(&Inputs { addresses: addresses.clone(), public_address: Some(public) });
        let on_it = addresses.contains(&public);
        prop_assert_eq!(verdict, if on_it { NatVerdict::Direct } else { NatVerdict::OneToOne });
    }

    #[test]
    fn the_order_of_addresses_does_not_matter(mut addresses: Vec<IpAddr>, public: Option<IpAddr>) {
        let forth = verdict(&Inputs { addresses: addresses.clone(), public_address: public }).0;
        addresses.reverse();
        let back = verdict(&Inputs { addresses, public_address: public }).0;
        prop_assert_eq!(forth, back);
    }

    #[test]
    fn an_ipv4_address_in_the_clothes_of_ipv6_is_the_same(address: Ipv4Addr) {
        let of = |address| verdict(&Inputs { addresses: vec![address], public_address: None });
        prop_assert_eq!(of(IpAddr::V4(address)), of(IpAddr::V6(address.to_ipv6_mapped())));
    }
}

#[test]
fn the_configuration_goes_over_the_document_and_that_over_the_verdict() {
    use NatVerdict::{Direct, Nat, OneToOne, Unknown};
    for verdict in [Direct, OneToOne, Nat, Unknown] {
        let behind = matches!(verdict, Nat | Unknown);
        assert!(wanted(When::Always, None, verdict));
        assert!(!wanted(When::Never, None, verdict));
        assert_eq!(wanted(When::Auto, None, verdict), behind);
        assert!(wanted(When::Never, Some(When::Always), verdict));
        assert!(!wanted(When::Always, Some(When::Never), verdict));
        assert_eq!(wanted(When::Never, Some(When::Auto), verdict), behind);
    }
}

#[test]
fn only_interfaces_with_a_usable_default_route_count() {
    let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth2\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
";
    assert_eq!(default_v4(v4), ["eth0"]);
    let none = "00000000000000000000000000000000";
    let v6 = format!(
        "{none} 00 {none} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0
20010db8000000000000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001 eth1
{none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo
"
    );
    assert_eq!(default_v6(&v6), ["eth0"]);
    assert_eq!(default_v4("nonsense\n"), [""; 0]);
    assert_eq!(default_v6(""), [""; 0]);
}

#[test]
fn the_kernel_is_asked_without_fail() {
    let inputs = read_inputs(PublicAddress::Unknown);
    assert!(
        inputs
            .addresses
            .iter()
            .all(|address| !address.is_loopback())
    );
    let (verdict, rule) = verdict(&inputs);
    assert_eq!(show(&inputs, verdict, &rule).rule, rule);
}
