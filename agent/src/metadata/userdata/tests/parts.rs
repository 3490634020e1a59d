//! User-data of several parts.

use super::*;

/// A MIME message of parts: the type, more headers, and what is in it.
pub(super) fn mime(parts: &[(&str, &str, &str)]) -> String {
    let mut text = "Content-Type: multipart/mixed; boundary=\"==b;1==\"\nMIME-Version: 1.0\n\
                    Number-Attachments: 1\n\nFor those who read mail.\n"
        .to_owned();
    for (kind, headers, content) in parts {
        text += &format!("--==b;1==\nContent-Type: {kind}\n{headers}\n{content}\n");
    }
    text + "--==b;1==--\n"
}

const SCRIPT: (&str, &str, &str) = ("text/x-shellscript", "", "#!/bin/sh\necho vmagent: 1\n");
const USERS: (&str, &str, &str) = ("text/cloud-config", "", "#cloud-config\nusers: []\n");

/// Every byte that may be one as `=XX`, in short lines.
fn quoted(text: &str) -> String {
    let all: String = text.bytes().map(|byte| format!("={byte:02X}")).collect();
    let lines: Vec<_> = all
        .as_bytes()
        .chunks(72)
        .map(String::from_utf8_lossy)
        .collect();
    lines.join("=\n")
}

#[test]
fn a_part_is_read_whatever_is_around_it() {
    let config = config();
    let packed = in_lines(&base64(gzip(&config)));
    let based = in_lines(&base64(&config));
    let encoded = "Content-Transfer-Encoding: base64\n";
    let named = "MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\
                 Content-Disposition: attachment;\n filename=\"tunnel.yaml\"\n";
    for ours in [
        (
            "text/cloud-config; charset=\"us-ascii\"",
            named,
            config.as_str(),
        ),
        ("TEXT/Cloud-Config", "", &yaml(12345)),
        ("text/plain", "", &config),
        ("text/cloud-config", encoded, &based),
        ("application/octet-stream", encoded, &packed),
        ("application/gzip", encoded, &packed),
        ("application/json", "", &json(12345).to_string()),
        (
            "text/cloud-config",
            "Content-Transfer-Encoding: Quoted-Printable\n",
            &quoted(&config),
        ),
    ] {
        for parts in [
            mime(&[ours]),
            mime(&[SCRIPT, ours]),
            mime(&[ours, USERS, SCRIPT]),
            mime(&[
                USERS,
                ("multipart/alternative; boundary=in", "", &inner(ours)),
            ]),
        ] {
            found(&parts);
            found(parts.replace('\n', "\r\n"));
            found(gzip(&parts));
            found(base64(&parts));
            // The end was cut off, or the first line is a mailbox's.
            found(parts.trim_end().trim_end_matches("--==b;1==--"));
            found(format!("From nobody Mon Jan  1 00:00:00 2026\n{parts}"));
        }
    }
    found(format!(
        "MIME-Version: 1.0\nContent-Type: text/cloud-config\n\n{config}"
    ));
    assert_eq!(reading(mime(&[SCRIPT, USERS])), Reading::Absent);
    assert_eq!(reading(mime(&[])), Reading::Absent);
}

fn inner((kind, headers, content): (&str, &str, &str)) -> String {
    format!("--in\nContent-Type: {kind}\n{headers}\n{content}\n--in--\n")
}

#[test]
fn parts_of_kinds_for_others_are_not_looked_into() {
    let config = config();
    for kind in [
        "text/x-include-url",
        "text/jinja2",
        "text/part-handler",
        "text/cloud-boothook",
        "text/cloud-config-jsonp",
        "image/png",
    ] {
        assert_eq!(reading(mime(&[(kind, "", &config)])), Reading::Absent);
    }
    let template = format!("## template: jinja\n{config}");
    let template = [("text/cloud-config", "", template.as_str())];
    assert_eq!(reading(mime(&template)), Reading::Absent);
}

/// As cloud-init does: `UserDataProcessor._process_msg` and `type_from_starts_with`.
#[test]
fn the_first_line_decides_where_the_type_is_any_text() {
    let (config, bare) = (config(), yaml(12345));
    let upper = config.replace("#cloud-config", "\n #Cloud-Config");
    for kind in [
        "text/x-shellscript; charset=us-ascii",
        "TEXT/X-Not-Multipart",
    ] {
        found(mime(&[(kind, "", &config)]));
        found(mime(&[(kind, "", &upper)]));
        found(mime(&[SCRIPT, (kind, "", &config), USERS]));
        for other in [
            bare.clone(),
            format!("#!/bin/sh\n{config}"),
            format!("#cloud-boothook\n{config}"),
            format!("#cloud-config-jsonp\n{config}"),
            format!("# {config}"),
        ] {
            let message = mime(&[(kind, "", &other)]);
            assert_eq!(reading(&message), Reading::Absent, "{message}");
        }
    }
    // An invalid type counts as text/plain.
    for kind in ["cloud-config", "a/b/c", ""] {
        found(mime(&[(kind, "", &config)]));
    }
}

#[test]
fn an_archive_is_read() {
    let lines = |text: &str| text.replace('\n', "\n    ");
    let config = config();
    let text = format!(
        "#cloud-config-archive\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n    vmagent: 1\n\
         - type: text/cloud-config\n  filename: tunnel.yaml\n  content: |\n    {}\n- '#!/bin/sh'\n",
        lines(&config)
    );
    found(&text);
    found(gzip(&text));
    found(mime(&[("text/cloud-config-archive", "", &text)]));
    found(format!(
        "#cloud-config-archive\n- |\n    {}\n",
        lines(&config)
    ));
    let based = in_lines(&base64(gzip(&config)));
    found(format!(
        "#cloud-config-archive\n- content: !!binary |\n    {}\n",
        lines(&based)
    ));
    let wrong = fault(text.replace("port: 12345", "port: 70000")).to_string();
    assert!(
        wrong.starts_with("user-data, part 2 (tunnel.yaml): tunnel.port: found 70000"),
        "{wrong}"
    );
    for none in [
        "#cloud-config-archive\n",
        "#cloud-config-archive\n{a: 1}",
        "#cloud-config-archive\n[7, ~, {}]",
    ] {
        assert_eq!(reading(none), Reading::Absent, "{none}");
    }
    let broken = fault("#cloud-config-archive\n- |\n  #cloud-config\n  vmagent: 1\n- [");
    assert_eq!(broken.code(), "document-invalid");
}

fn cloud_config(content: &str) -> (&str, &str, &str) {
    ("text/cloud-config", "", content)
}

#[test]
fn the_last_part_with_our_key_counts_and_a_wrong_one_is_named() {
    let (good, other) = (config(), format!("#cloud-config\n{}", yaml(7)));
    found(mime(&[cloud_config(&other), cloud_config(&good), USERS]));

    let wrong = good.replace("version: 1", "version: 9");
    let named = ("text/cloud-config; name=a.cfg", "", wrong.as_str());
    let said = fault(mime(&[SCRIPT, cloud_config(&other), named, USERS])).to_string();
    assert_eq!(
        said,
        "user-data, part 3 (a.cfg): version: found 9, expected 1"
    );
    let nested = inner(cloud_config(&wrong));
    let nested = ("multipart/mixed; boundary=in", "", nested.as_str());
    let said = fault(mime(&[USERS, nested])).to_string();
    assert_eq!(
        said,
        "user-data, part 2, part 1: version: found 9, expected 1"
    );
}

#[test]
fn a_part_that_can_not_be_decoded_matters_where_no_other_is_for_us() {
    let good = config();
    let good = ("text/cloud-config", "", good.as_str());
    let base64 = "Content-Transfer-Encoding: base64\n";
    for broken in [
        ("text/cloud-config; name=\"a\u{7}b\"", base64, "!!!"),
        (
            "text/cloud-config",
            "Content-Transfer-Encoding: x-uuencode\n",
            "x",
        ),
        ("multipart/mixed", "", "--x\n"),
    ] {
        found(mime(&[good, broken]));
        let fault = fault(mime(&[USERS, broken]));
        assert_eq!(fault.code(), "metadata-undecodable");
        let said = fault.to_string();
        assert!(
            said.starts_with("user-data, part 2") && !said.contains('\u{7}'),
            "{said}"
        );
    }
    // Nobody asks how a script is encoded.
    assert_eq!(
        reading(mime(&[("text/x-shellscript", base64, "!!!")])),
        Reading::Absent
    );
}
