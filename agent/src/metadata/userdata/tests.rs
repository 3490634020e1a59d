use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use russh::keys::ssh_key::encoding::base64::{Base64, Encoding};

use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures::{corpus, document, json, yaml};

mod parts;

fn reading(body: impl AsRef<[u8]>) -> Reading {
    read("user-data", body.as_ref())
}

#[track_caller]
fn found(body: impl AsRef<[u8]>) {
    let body = body.as_ref();
    let shown = String::from_utf8_lossy(body);
    assert_eq!(reading(body), Reading::Found(document(12345)), "{shown}");
}

#[track_caller]
fn fault(body: impl AsRef<[u8]>) -> SourceFault {
    let Reading::Failed(fault) = reading(body) else {
        panic!("no fault");
    };
    fault
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    Base64::encode_string(bytes.as_ref())
}

/// In lines of 76 characters, as mail has it.
fn in_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(76)
        .map(String::from_utf8_lossy)
        .collect();
    lines.join("\r\n")
}

fn config() -> String {
    format!("#cloud-config\n{}", yaml(12345))
}

#[test]
fn a_config_is_read_however_it_is_wrapped() {
    let config = config();
    let long = format!("{config}write_files:\n- {{path: /etc/x, content: 'vmagent: 1'}}\n");
    for plain in [
        config.clone(),
        yaml(12345),
        json(12345).to_string(),
        format!("{{\"vmagent\": {}}}", json(12345)),
        long,
        format!("\n\n{config}"),
    ] {
        found(&plain);
        found(format!("\u{feff}{plain}"));
        found(plain.replace('\n', "\r\n"));
        found(gzip(&plain));
        found(base64(&plain));
        found(in_lines(&base64(&plain)));
        found(
            base64(&plain)
                .replace('+', "-")
                .replace('/', "_")
                .replace('=', ""),
        );
        found(base64(gzip(&plain)));
        found(gzip(base64(&plain)));
        found(base64(base64(&plain)));
        found(serde_json::to_string(&plain).unwrap());
        if !plain.starts_with('{') {
            found(plain.replace('\n', "\\n"));
            found(plain.replace('\n', "\\r\\n"));
        }
    }
}

#[test]
fn all_members_of_a_compressed_text_are_read() {
    let config = config();
    let (one, two) = config.split_at(config.len() / 2);
    let mut members = [gzip(one), gzip(two)].concat();
    found(&members);
    members.resize(members.len().next_multiple_of(512), 0);
    found(&members);
    members.push(1);
    assert_eq!(fault(&members).code(), "metadata-undecodable");
}

#[test]
fn what_is_for_others_is_absent() {
    let config = config();
    for text in [
        String::new(),
        " \r\n".to_owned(),
        "null".to_owned(),
        "7".to_owned(),
        "[1, 2]".to_owned(),
        "hostname=web1".to_owned(),
        "AVeryLongWordThatCouldBeBase64".to_owned(),
        "#cloud-config\nusers: []\n".to_owned(),
        format!("#!/bin/sh\ncat >/etc/vmagent/tunnel.yaml <<E\n{config}\nE\n"),
        "#!/bin/sh -c 'printf \"vmagent: 1\\n\"'".to_owned(),
        format!("#cloud-boothook\n{config}"),
        format!("#include\nhttp://127.0.0.1/{config}"),
        "#include-once\nhttp://127.0.0.1/\n".to_owned(),
        format!("#part-handler\n{config}"),
        format!("#cloud-config-jsonp\n{config}"),
        format!("## template: jinja\n{config}"),
        "{\"ignition\": {\"version\": \"3.0.0\"}}".to_owned(),
        "<powershell>\nWrite-Host vmagent: 1\n</powershell>".to_owned(),
    ] {
        for body in [text.clone().into_bytes(), gzip(&text), base64(&text).into()] {
            assert_eq!(reading(body), Reading::Absent, "{text}");
        }
    }
    assert!(matches!(
        reading("#cloud-config\nvmagent: null\n"),
        Reading::Empty(_)
    ));
    assert!(matches!(
        reading("#cloud-config\nvmagent:\n"),
        Reading::Silent { blank: Some(_), .. }
    ));
}

#[test]
fn what_is_ours_and_wrong_is_a_fault_in_each_form() {
    let wrong = config().replace("port: 12345", "port: 70000");
    let said = "user-data: tunnel.port: found 70000, expected 0 to 65535";
    for body in [
        wrong.clone().into_bytes(),
        gzip(&wrong),
        base64(&wrong).into(),
        wrong.replace('\n', "\\n").into(),
    ] {
        assert_eq!(fault(body).to_string(), said);
    }
    let binary = fault([0x7f, b'E', b'L', b'F', 0xff, 0]);
    assert_eq!(binary.code(), "metadata-not-text");
}

#[test]
fn what_was_cut_off_is_named() {
    let packed = gzip(config());
    let cut = fault(&packed[..packed.len() - 20]);
    assert_eq!(cut.code(), "metadata-undecodable");
    let said = cut.to_string();
    assert!(
        said.starts_with("user-data can't be decoded: it is compressed"),
        "{said}"
    );
    assert!(cut.advice().contains("cut"));
    let mut other = packed.clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(fault(other).code(), "metadata-undecodable");
}

#[test]
fn bombs_do_not_go_off() {
    let zeros = gzip(vec![b' '; 8 << 20]);
    for bomb in [zeros.clone(), gzip(&zeros), base64(&zeros).into()] {
        assert_eq!(fault(bomb).code(), "metadata-too-large");
    }
    // Each is small enough; all together are not.
    let half = in_lines(&base64(gzip(vec![b' '; LIMIT / 2])));
    let part = format!("--x\nContent-Transfer-Encoding: base64\n\n{half}\n");
    let head = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n";
    let many = fault(format!("{head}{}--x--\n", part.repeat(100)));
    assert_eq!(many.code(), "metadata-too-large");

    let mut nested = config().into_bytes();
    for _ in 0..=DEPTH {
        nested = gzip(nested);
    }
    assert_eq!(fault(nested).code(), "metadata-undecodable");
    let mut nested = config();
    for level in 0..100 {
        nested = format!(
            "Content-Type: multipart/mixed; boundary=b{level}x\n\n--b{level}x\n{nested}\n--b{level}x--\n"
        );
    }
    assert_eq!(fault(nested).code(), "metadata-undecodable");
}

#[test]
fn what_the_fuzzer_begins_with_is_mostly_ours() {
    let corpus = corpus("userdata");
    let found = corpus
        .iter()
        .filter(|bytes| matches!(reading(bytes), Reading::Found(_)));
    assert!(found.count() * 2 > corpus.len());
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes: Vec<u8>) {
        let _ = reading(&bytes);
        let _ = reading(gzip(&bytes));
        let _ = reading(base64(&bytes));
    }

    #[test]
    fn no_damage_breaks_it(at: prop::sample::Index, with in "[ -~\r\n]{0,3}") {
        let mut text = parts::mime(&[("text/cloud-config", "", &config())]);
        let at = at.index(text.len());
        text.replace_range(at..at, &with);
        let _ = reading(&text);
    }
}
