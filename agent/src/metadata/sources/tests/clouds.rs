//! Every service over HTTP, in its good days and in its bad ones.

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::walk::identity;
use super::*;
use crate::config::SourceName::{Azure, Digitalocean, Gce, Hetzner, Mmds, Openstack, Url};
use crate::metadata::fixtures::yaml;

/// A service as its public document has it. All in lower case, as the fixture hears it.
#[derive(Clone, Copy)]
struct Cloud {
    name: SourceName,
    /// The public document.
    follows: &'static str,
    /// What is asked for the document.
    document: &'static str,
    /// What carries it there.
    carries: fn(&str) -> String,
    /// What must stand in every request.
    header: &'static str,
    /// What else there is, and is asked for in a round.
    facts: &'static [(&'static str, &'static str)],
}

fn as_it_is(text: &str) -> String {
    text.to_owned()
}

const CLOUDS: [Cloud; 8] = [
    Cloud {
        name: Url,
        follows: "RFC 9110",
        document: "/vm.yaml",
        carries: as_it_is,
        header: "get",
        facts: &[],
    },
    Cloud {
        name: Openstack,
        follows: "docs.openstack.org/nova/latest/user/metadata.html",
        document: "/openstack/latest/vendor_data2.json",
        carries: |text| serde_json::json!({"vmagent": text}).to_string(),
        header: "get",
        facts: &[
            ("/openstack/latest/meta_data.json", "{\"uuid\": \"i-1\"}"),
            ("/latest/meta-data/public-ipv4", "198.51.100.7"),
        ],
    },
    Cloud {
        name: Ec2,
        follows: "docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html",
        document: "/latest/user-data",
        carries: as_it_is,
        header: "x-aws-ec2-metadata-token: t",
        facts: &[
            ("/latest/meta-data/instance-id", "i-1"),
            ("/latest/meta-data/public-ipv4", "198.51.100.7"),
        ],
    },
    Cloud {
        name: Mmds,
        follows: "github.com/firecracker-microvm/firecracker docs/mmds/mmds-user-guide.md",
        document: "/",
        carries: |text| {
            let meta_data =
                serde_json::json!({"instance-id": "i-1", "public-ipv4": "198.51.100.7"});
            serde_json::json!({"vmagent": text, "latest": {"meta-data": meta_data}}).to_string()
        },
        header: "x-metadata-token: t",
        facts: &[("/", "")],
    },
    Cloud {
        name: Gce,
        follows: "cloud.google.com/compute/docs/metadata/querying-metadata",
        document: "/computemetadata/v1/instance/attributes/vmagent",
        carries: as_it_is,
        header: "metadata-flavor: google",
        facts: &[
            ("/computemetadata/v1/instance/id", "i-1"),
            (
                "/computemetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
                "198.51.100.7",
            ),
        ],
    },
    Cloud {
        name: Azure,
        follows: "learn.microsoft.com/azure/virtual-machines/instance-metadata-service",
        document: "/metadata/instance/compute/userdata?api-version=2021-02-01&format=text",
        carries: |text| Base64::encode_string(text.as_bytes()),
        header: "metadata: true",
        facts: &[(
            "/metadata/instance?api-version=2021-02-01",
            "{\"compute\": {\"vmId\": \"i-1\"}, \"network\": {\"interface\": [{\"ipv4\": \
             {\"ipAddress\": [{\"publicIpAddress\": \"198.51.100.7\"}]}}]}}",
        )],
    },
    Cloud {
        name: Hetzner,
        follows: "docs.hetzner.cloud, Server metadata",
        document: "/hetzner/v1/userdata",
        carries: as_it_is,
        header: "get",
        facts: &[(
            "/hetzner/v1/metadata",
            "instance-id: i-1\npublic-ipv4: 198.51.100.7\n",
        )],
    },
    Cloud {
        name: Digitalocean,
        follows: "docs.digitalocean.com/reference/api/metadata-api",
        document: "/metadata/v1.json",
        carries: |text| serde_json::json!({"droplet_id": 1, "user_data": text}).to_string(),
        header: "get",
        facts: &[("/metadata/v1.json", "")],
    },
];

/// A cloud's service, and what it says when it is asked for the document.
struct Service {
    cloud: Cloud,
    server: Server,
    says: Arc<Mutex<Say>>,
    directory: Directory,
}

impl Service {
    async fn new(cloud: Cloud) -> Self {
        let says = Arc::new(Mutex::new(Say::status(404)));
        let now = Arc::clone(&says);
        let server = Server::new(move |head| {
            if head.starts_with("put /latest/api/token ") {
                return Say::ok("t");
            }
            let path = head.split(' ').nth(1).unwrap_or_default();
            if !head.contains(cloud.header) {
                return Say::status(401);
            }
            if path == cloud.document {
                return now.lock().unwrap().clone();
            }
            let page = cloud.facts.iter().find(|(at, _)| *at == path);
            page.map_or(Say::status(404), |(_, text)| Say::ok(text))
        })
        .await;
        let directory = Directory::new();
        Self {
            cloud,
            server,
            says,
            directory,
        }
    }

    fn sources(&self) -> Sources {
        let config = Config {
            sources: Some(vec![self.cloud.name]),
            url: self.server.base(),
            document_url: HttpUrl::parse(&format!("{}/vm.yaml", self.server.url)).ok(),
            ..Config::default()
        };
        let places = Places {
            root: self.directory.path().to_owned(),
            credentials: None,
            inputs: self.directory.path().join("inputs.sock"),
        };
        Sources::new(&config, places)
    }

    fn say(&self, say: Say) {
        *self.says.lock().unwrap() = say;
    }

    fn has(&self, port: u16) -> Say {
        Say::ok((self.cloud.carries)(&yaml(port)))
    }
}

async fn reading(sources: &mut Sources) -> Reading {
    sources.walk().await.pop().unwrap().1
}

/// Through everything that goes wrong, and good in the end.
async fn bad_days(cloud: Cloud) {
    let service = Service::new(cloud).await;
    let mut sources = service.sources();
    let about = format!("{}, by {}", cloud.name.as_str(), cloud.follows);
    for (say, code) in [
        (Say::status(503), "metadata-server-error"),
        (Say::status(403), "metadata-forbidden"),
        (Say::status(429), "metadata-throttled"),
        (Say::status(400), "metadata-http"),
        (
            Say::Redirect("http://127.0.0.1:1/x".into()),
            "metadata-redirected",
        ),
        (Say::Silence, "metadata-unfinished"),
        (Say::Trickle, "metadata-unfinished"),
        (Say::Truncated, "metadata-unfinished"),
        (Say::Endless, "metadata-too-large"),
        (Say::ok([0x7f, 0xff, 0xfe, 0]), "metadata-not-text"),
    ] {
        let shown = format!("{about}: {say:?}");
        service.say(say);
        match (reading(&mut sources).await, cloud.name) {
            (Reading::Failed(fault), _) => assert_eq!(fault.code(), code, "{shown}"),
            // No tree of JSON: it is another service's.
            (Reading::Silent { .. }, Mmds) if code == "metadata-not-text" => {}
            (other, _) => panic!("{shown}: {other:?}"),
        }
    }
    service.say(Say::status(404));
    match (reading(&mut sources).await, cloud.name) {
        (Reading::Absent, Gce | Url | Ec2) => {}
        // These services have this page for every machine.
        (Reading::Silent { blank: None, .. }, _) => {}
        (other, _) => panic!("{about}: {other:?}"),
    }
    for port in [1, 2] {
        service.say(service.has(port));
        let found = Reading::Found(document(port));
        assert_eq!(reading(&mut sources).await, found, "{about}");
    }
}

#[tokio::test]
async fn every_fault_is_told_apart_and_healed_by_a_good_answer() {
    // Half of the time of each is spent with services that do not answer.
    let mut all = JoinSet::new();
    for cloud in CLOUDS {
        all.spawn(bad_days(cloud));
    }
    all.join_all().await;
}

#[tokio::test]
async fn every_service_says_what_it_knows_of_the_guest() {
    let expected = Said::new(Some("i-1"), Some("198.51.100.7"));
    for cloud in CLOUDS.iter().filter(|cloud| !cloud.facts.is_empty()) {
        // A Droplet says all of it at once.
        let droplet = "{\"droplet_id\": 1, \"interfaces\": {\"public\": [{\"ipv4\": \
                       {\"ip_address\": \"198.51.100.7\"}}]}}";
        let service = Service::new(*cloud).await;
        service.say(service.has(1));
        let mut id = "i-1";
        if cloud.name == Digitalocean {
            service.say(Say::ok(droplet));
            id = "1";
        }
        let facts = service.sources().facts(Facts::default()).await;
        assert_eq!(facts.public, expected.public, "{}", cloud.follows);
        assert_eq!(facts.instance_id.as_deref(), Some(id), "{}", cloud.follows);
        assert_eq!(facts.identity, identity(&[(cloud.name, id)]));
    }
}

/// Rounds in an hour with a document in force, at the shortest pauses that chance can make.
const ROUNDS: usize = 3600 / 225;

#[tokio::test]
async fn an_idle_hour_costs_a_service_few_requests() {
    for cloud in CLOUDS {
        let service = Service::new(cloud).await;
        service.say(service.has(1));
        let mut sources = service.sources();
        let mut facts = Facts::default();
        let mut count = 0;
        // The first round also asks for a token.
        for _ in 0..2 {
            let before = service.server.requests().len();
            assert!(matches!(reading(&mut sources).await, Reading::Found(_)));
            facts = sources.facts(facts).await;
            count = service.server.requests().len() - before;
        }
        println!(
            "{}: {} requests an hour",
            cloud.name.as_str(),
            count * ROUNDS
        );
        assert!(count <= 3, "{}: {count} in a round", cloud.name.as_str());
    }
}
