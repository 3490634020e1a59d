use super::*;

#[test]
fn a_seed_is_named_by_one_word_among_others() {
    for (text, expected) in [
        (
            "ro quiet ds=nocloud;s=http://10.0.2.2:8000/ console=ttyS0",
            Some("http://10.0.2.2:8000/"),
        ),
        (
            "ds=nocloud-net;s=http://[fd00::1]/a/",
            Some("http://[fd00::1]/a/"),
        ),
        ("\"ds=nocloud;h=web1;seedfrom=/seed;i=i-1\"", Some("/seed")),
        ("ds=\"nocloud;s=file:///seed/\"", Some("file:///seed/")),
        ("ci.ds=NoCloud;s=/seed", Some("/seed")),
        ("ds=nocloud", None),
        ("ds=nocloud;h=web1", None),
        ("ds=ec2;s=http://10.0.2.2/", None),
        ("dds=nocloud;s=/seed", None),
        ("VMware-42 1f", None),
        ("", None),
    ] {
        assert_eq!(seed(text), expected, "{text}");
    }
}
