use std::sync::Arc;

use super::*;
use crate::config::SourceName::{Ec2, Gce, Mmds, Openstack};
use crate::metadata::fixtures::Directory;
use crate::metadata::sources::Places;
use crate::metadata::sources::files::Files;
use crate::metadata::sources::http::Http;

fn blueprint(directory: &Directory, url: &str) -> Blueprint {
    let places = Places {
        root: directory.path().to_owned(),
        credentials: None,
        inputs: directory.path().join("inputs.sock"),
    };
    Blueprint {
        files: Arc::new(Files::new(places, "/nowhere".into())),
        cloud: Http::new(&HttpUrl::parse(url).unwrap()),
        document: None,
    }
}

fn clouds(url: &str, product: &str, vendor: &str, named: Option<&[SourceName]>) -> (bool, bool) {
    let directory = Directory::new();
    directory.write("sys/class/dmi/id/product_name", product);
    directory.write("sys/class/dmi/id/sys_vendor", vendor);
    let clouds = Clouds::of(&blueprint(&directory, url), named);
    (clouds.ec2, clouds.openstack)
}

#[test]
fn only_a_sign_or_a_person_says_that_it_may_be_there() {
    const DEFAULT: &str = "http://169.254.169.254";
    for (url, product, vendor, named, expected) in [
        (DEFAULT, "OpenStack Nova", "QEMU", None, (false, true)),
        (DEFAULT, "m5.large", "Amazon EC2", None, (true, false)),
        (DEFAULT, "Standard PC", "QEMU", None, (false, false)),
        (DEFAULT, "x", "Google", Some(&[Ec2, Gce][..]), (true, false)),
        (DEFAULT, "x", "x", Some(&[Openstack]), (false, true)),
        (DEFAULT, "x", "Amazon EC2", Some(&[Gce]), (false, false)),
        // The configuration names the cloud.
        ("http://192.0.2.1", "x", "Amazon EC2", None, (false, false)),
    ] {
        let found = clouds(url, product, vendor, named);
        assert_eq!(found, expected, "{url}, {product}, {vendor}, {named:?}");
    }
}

#[test]
fn each_cloud_has_its_address() {
    let ec2 = Clouds {
        ec2: true,
        openstack: false,
    };
    let shown = |name| -> Vec<String> { ec2.urls(name).iter().map(HttpUrl::to_string).collect() };
    assert_eq!(shown(Ec2), ["http://[fd00:ec2::254]"]);
    for other in [Openstack, Mmds, Gce] {
        assert_eq!(shown(other), [""; 0]);
    }
}
