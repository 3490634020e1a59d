//! Who is asked in a round, and who is not.

use super::*;

#[tokio::test]
async fn a_walk_ends_at_the_first_document() {
    let server = Server::new(|_| Say::status(404)).await;
    let directory = Directory::new();
    directory.write(COMBINED, format!("{{\"vmagent\": {}}}", json(12345)));
    let order = [Credential, Openstack, CloudInit, Ec2];
    let readings = sources(&directory, &server.url, &order).walk().await;
    let names: Vec<_> = readings.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [Credential, Openstack, CloudInit]);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_service_that_can_not_be_reached_is_tried_once_in_a_round() {
    let directory = Directory::new();
    let readings = sources(&directory, NOWHERE, &[Openstack, Ec2]).walk().await;
    let [
        (Openstack, Reading::Failed(one)),
        (Ec2, Reading::Failed(two)),
    ] = &readings[..]
    else {
        panic!("{readings:?}")
    };
    assert_eq!(one, two);
    assert!(one.is_unreachable());
}

#[tokio::test]
async fn the_facts_are_asked_of_the_first_service_that_knows() {
    let server = Server::new(|head| match head.split(' ').nth(1) {
        Some("/openstack/latest/meta_data.json") => Say::ok("{\"uuid\": \"83679162-1378\"}"),
        // Not an address: OpenStack without a floating IP.
        Some("/latest/meta-data/public-ipv4") => Say::ok(""),
        _ => Say::status(404),
    })
    .await;
    let directory = Directory::new();
    let mut sources = sources(&directory, &server.url, &[Openstack, Ec2]);
    let before = Facts {
        public: PublicAddress::Own("198.51.100.7".parse().unwrap()),
        ..Facts::default()
    };
    let facts = sources.facts(before).await;
    assert_eq!(facts.public, PublicAddress::None);
    assert_eq!(facts.instance_id.as_deref(), Some("83679162-1378"));
    // cloud-init knows better, as it read them first.
    directory.write("var/lib/cloud/data/instance-id", "i-0abc\n");
    assert_eq!(
        sources.facts(facts).await.instance_id.as_deref(),
        Some("i-0abc")
    );
}

#[tokio::test]
async fn facts_outlive_a_service_that_is_gone() {
    let directory = Directory::new();
    let before = Facts {
        public: PublicAddress::Own("198.51.100.7".parse().unwrap()),
        public_source: Some(Ec2),
        instance_id: Some("i-0abc".to_owned()),
        identity: identity(&[(Ec2, "i-0abc")]),
    };
    let mut sources = sources(&directory, NOWHERE, &[Openstack, Ec2]);
    assert_eq!(sources.facts(before.clone()).await, before);
}

pub(super) fn identity(names: &[(SourceName, &str)]) -> Identity {
    let mut identity = Identity::default();
    for (who, id) in names {
        identity.note(*who, (*id).to_owned());
    }
    identity
}

#[test]
fn a_name_tells_machines_apart_only_against_one_of_the_same_origin() {
    let known = identity(&[(CloudInit, "a"), (Ec2, "b")]);
    for (later, differs) in [
        (&[(CloudInit, "a"), (Ec2, "b")][..], false),
        (&[], false),
        (&[(CloudInit, "c"), (Ec2, "b")], true),
        (&[(Ec2, "c")], true),
        (&[(Openstack, "c")], false),
    ] {
        assert_eq!(known.differs(&identity(later)), differs, "{later:?}");
    }
    assert!(!identity(&[(Ec2, "b")]).differs(&identity(&[(CloudInit, "a")])));
}

#[tokio::test]
async fn a_machine_without_a_sign_asks_as_ever_and_one_of_a_cloud_asks_that_cloud() {
    let server = Server::new(|_| Say::status(404)).await;
    let directory = Directory::new();
    let mut sources = configured(&directory, &server.url, None);
    let asked = |readings: Vec<(SourceName, Reading)>| -> Vec<&str> {
        readings.iter().map(|(name, _)| name.as_str()).collect()
    };
    let local = [
        "credential",
        "file",
        "cloud-init",
        "config-drive",
        "nocloud",
    ];
    assert_eq!(
        asked(sources.walk().await),
        [&local[..], &["openstack", "ec2", "mmds"]].concat()
    );
    directory.write("sys/class/dmi/id/product_name", "Google Compute Engine\n");
    assert_eq!(asked(sources.walk().await), [&local[..], &["gce"]].concat());
    let left_out: Vec<_> = sources
        .left_out()
        .iter()
        .map(|left| left.name.as_str())
        .collect();
    assert_eq!(
        left_out,
        [
            "openstack",
            "ec2",
            "mmds",
            "azure",
            "hetzner",
            "digitalocean"
        ]
    );
    assert_eq!(
        sources.left_out()[0].reason,
        "this is Google Compute Engine"
    );
    // A person knows better.
    let mut named = configured(&directory, &server.url, Some(vec![Ec2]));
    assert_eq!(asked(named.walk().await), ["ec2"]);
    assert!(named.left_out().is_empty());
}

#[tokio::test]
async fn no_guess_takes_away_a_source_that_had_a_document() {
    let server = Server::new(|head| match head.contains(" /latest/user-data ") {
        true => Say::ok(yaml(1)),
        false => Say::status(404),
    })
    .await;
    let directory = Directory::new();
    let mut sources = configured(&directory, &server.url, None);
    assert_eq!(
        sources.walk().await.pop().unwrap().1,
        Reading::Found(document(1))
    );
    // Late, and wrong.
    directory.write("run/cloud-init/cloud-id", "gce\n");
    for _ in 0..2 {
        let last = sources.walk().await.pop().unwrap();
        assert_eq!(last, (Ec2, Reading::Found(document(1))));
        // Asking once more costs less than never to ask again.
        sources.forget();
    }
    let left_out = sources.left_out().iter().map(|left| left.name);
    assert!(left_out.clone().any(|name| name == Openstack));
    assert!(left_out.clone().all(|name| name != SourceName::Gce));
}

#[tokio::test]
async fn a_service_that_wants_rest_has_it_whoever_asks() {
    let server = Server::new(|_| Say::status(429).with("Retry-After", "20")).await;
    let directory = Directory::new();
    let mut sources = sources(&directory, &server.url, &[Openstack, Ec2]);
    let round = async |sources: &mut Sources| {
        let readings = sources.walk().await;
        let throttled = |reading: &Reading| matches!(reading, Reading::Failed(fault) if fault.code() == "metadata-throttled");
        assert!(
            readings.iter().all(|(_, reading)| throttled(reading)),
            "{readings:?}"
        );
        sources.facts(Facts::default()).await;
        server.requests().len()
    };
    assert_eq!(round(&mut sources).await, 1);
    pass(Duration::from_secs(19)).await;
    assert_eq!(round(&mut sources).await, 1);
    pass(Duration::from_secs(2)).await;
    assert_eq!(round(&mut sources).await, 2);
    // On another machine it is another service.
    sources.forget();
    assert_eq!(round(&mut sources).await, 3);
    // Also if it says so only when it is asked for something else.
    sources.forget();
    sources.facts(Facts::default()).await;
    assert_eq!(round(&mut sources).await, 4);
}

#[tokio::test]
async fn a_merge_of_cloud_init_with_null_asks_for_no_less() {
    for merge in [
        "{\"vmagent\": null}",
        "{\"vmagent\": {\"version\": 1, \"tunnel\": null}}",
    ] {
        let directory = Directory::new();
        directory.write(COMBINED, merge);
        let readings = sources(&directory, NOWHERE, &[CloudInit]).walk().await;
        let [(CloudInit, reading)] = &readings[..] else {
            panic!("{readings:?}")
        };
        assert!(
            matches!(reading, Reading::Silent { .. } | Reading::Failed(_)),
            "{merge}: {reading:?}"
        );
    }
}
