use super::*;
use crate::metadata::fixtures::Directory;

fn places(directory: &Directory) -> Places {
    Places {
        root: directory.path().to_owned(),
        credentials: None,
        inputs: directory.path().join("inputs.sock"),
    }
}

/// The services that are asked on a machine with these files.
fn asked(files: &[(&str, &str)]) -> Vec<&'static str> {
    let directory = Directory::new();
    for (file, text) in files {
        directory.write(file, text);
    }
    let guess = guess(&places(&directory));
    let allowed = |name: &SourceName| guess.excludes(*name).is_none();
    let names = SourceName::ALL.into_iter().filter(allowed);
    let services = names.filter(|name| {
        !matches!(
            name,
            SourceName::Credential
                | SourceName::File
                | SourceName::CloudInit
                | SourceName::ConfigDrive
                | SourceName::Nocloud
                | SourceName::Url
        )
    });
    services.map(SourceName::as_str).collect()
}

fn by_dmi(file: &str, text: &str) -> Vec<&'static str> {
    asked(&[(&format!("sys/class/dmi/id/{file}"), text)])
}

const UNKNOWN: [&str; 3] = ["openstack", "ec2", "mmds"];

#[test]
fn each_cloud_has_its_sign() {
    for (file, text, expected) in [
        ("sys_vendor", "Amazon EC2\n", &["ec2"][..]),
        ("bios_version", "4.11.amazon\n", &["ec2"]),
        ("product_name", "OpenStack Nova\n", &["openstack", "ec2"]),
        (
            "chassis_asset_tag",
            "OpenTelekomCloud\n",
            &["openstack", "ec2"],
        ),
        ("product_name", "Google Compute Engine\n", &["gce"]),
        (
            "chassis_asset_tag",
            "7783-7084-3265-9085-8269-3286-77\n",
            &["azure"],
        ),
        ("sys_vendor", "Hetzner\n", &["hetzner"]),
        ("sys_vendor", "DigitalOcean\n", &["digitalocean"]),
        // Others', and Hyper-V without Azure.
        ("sys_vendor", "QEMU\n", &UNKNOWN),
        ("sys_vendor", "Microsoft Corporation\n", &UNKNOWN),
        ("product_name", "Not an OpenStack Nova\n", &UNKNOWN),
        ("sys_vendor", "\n", &UNKNOWN),
    ] {
        assert_eq!(by_dmi(file, text), expected, "{file}: {text}");
    }
}

#[test]
fn cloud_init_knows_as_well() {
    for (id, expected) in [
        ("aws\n", &["ec2"][..]),
        ("aws-gov\n", &["ec2"]),
        ("gce\n", &["gce"]),
        ("azure-china\n", &["azure"]),
        ("nocloud\n", &UNKNOWN),
        ("none\n", &UNKNOWN),
        ("", &UNKNOWN),
    ] {
        assert_eq!(asked(&[("run/cloud-init/cloud-id", id)]), expected, "{id}");
    }
}

#[test]
fn where_they_disagree_both_are_asked() {
    let files = [
        ("sys/class/dmi/id/sys_vendor", "Hetzner"),
        ("run/cloud-init/cloud-id", "aws"),
    ];
    assert_eq!(asked(&files), ["ec2", "hetzner"]);
}

#[test]
fn nothing_at_all_is_asked_as_ever() {
    assert_eq!(asked(&[]), UNKNOWN);
    let everywhere = Guess::default();
    for local in [
        SourceName::Credential,
        SourceName::File,
        SourceName::CloudInit,
        SourceName::Url,
    ] {
        assert_eq!(everywhere.excludes(local), None);
        assert_eq!(Guess([Platform::Gce].into()).excludes(local), None);
    }
}

#[test]
fn what_is_no_file_is_no_sign() {
    let directory = Directory::new();
    directory.write("sys/class/dmi/id/sys_vendor/file", "a directory");
    assert_eq!(guess(&places(&directory)), Guess::default());
}
