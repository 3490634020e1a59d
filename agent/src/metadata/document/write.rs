//! From a [`Document`] back to a tree, for the copy that outlives the agent.

use russh::keys::ssh_key::{self, LineEnding};
use serde_json::{Value, json};

use super::{Document, Proxy, ServiceForward, TunnelSpec, When};
use crate::metadata::tree::Tree;

/// The document as `document` in `read.rs` takes it, without what it did not understand.
///
/// # Errors
/// A key that can't be encoded, though it came out of a text.
pub(in crate::metadata) fn write(document: &Document) -> Result<Tree, ssh_key::Error> {
    let mut tree = Tree(json!({"version": 1}));
    if let Some(tunnel) = &document.tunnel {
        tree.0["tunnel"] = self::tunnel(tunnel)?;
    }
    if let Some(url) = &document.report_url {
        tree.0["report"] = json!({"url": url.as_written()});
    }
    Ok(tree)
}

fn tunnel(tunnel: &TunnelSpec) -> Result<Value, ssh_key::Error> {
    let when = match tunnel.when {
        When::Auto => "auto",
        When::Always => "always",
        When::Never => "never",
    };
    let proxies: Vec<_> = tunnel.proxies.iter().map(proxy).collect::<Result<_, _>>()?;
    let forwards: Vec<_> = tunnel.forwards.iter().map(forward).collect();
    let certificate = tunnel.login.certificate.as_ref();
    let certificate = certificate.map(ssh_key::Certificate::to_openssh);
    let mut value = json!({
        "when": when,
        "proxies": proxies,
        "bind": tunnel.forward.bind,
        "port": tunnel.forward.port,
        "forwards": forwards,
    });
    if let Some(certificate) = certificate.transpose()? {
        value["certificate"] = certificate.into();
    }
    // Last: what fails before it leaves no copy of the key behind.
    let key = tunnel.login.key.to_openssh(LineEnding::LF)?;
    value["private_key"] = key.as_str().into();
    Ok(value)
}

fn proxy(proxy: &Proxy) -> Result<Value, ssh_key::Error> {
    let mut value = json!({
        "host": proxy.host,
        "port": proxy.port,
        "user": proxy.user,
        "host_keys": proxy.host_keys.lines()?,
    });
    if let Some(public_host) = &proxy.public_host {
        value["public_host"] = public_host.as_str().into();
    }
    Ok(value)
}

fn forward(forward: &ServiceForward) -> Value {
    json!({
        "bind": forward.at.bind,
        "port": forward.at.port,
        "to": forward.to.to_string(),
        "origins": forward.origins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::document::{Carrier, Parsed, parse};
    use crate::metadata::fixtures;

    fn again(text: &str) {
        let Parsed::Document(document) = parse(text.as_bytes(), Carrier::Own).unwrap() else {
            panic!("{text}");
        };
        let written = write(&document).unwrap().0.to_string();
        let Parsed::Document(read) = parse(written.as_bytes(), Carrier::Own).unwrap() else {
            panic!();
        };
        assert_eq!(read.tunnel, document.tunnel, "{text}");
        assert_eq!(read.report_url, document.report_url, "{text}");
    }

    #[test]
    fn what_is_written_reads_as_the_same_document() {
        again("version: 1");
        for url in ["http://h/r?token=t", "http://[fe80::1%25eth0]:8080/r"] {
            again(&format!("version: 1\nreport: {{url: \"{url}\"}}"));
        }
        let plain = fixtures::yaml(12345);
        again(&plain);
        let host_key = fixtures::public(2);
        let authority = format!("@cert-authority {}", fixtures::public(3));
        let pin = fixtures::key(4).fingerprint(ssh_key::HashAlg::Sha256);
        let all = plain
            .replace(
                &format!("[\"{host_key}\"]"),
                &format!("[\"{host_key}\", \"{authority}\", \"{pin}\"]"),
            )
            .replace(
                "        user:",
                "        port: 2222\n        public_host: gate.example.org\n        user:",
            )
            .replace(
                "    port: 12345\n",
                "    port: 0\n    when: never\n    forwards:\n      \
                 - {bind: '', port: 80, to: '[::1]:80'}\n      \
                 - {bind: '', port: 81, to: '[::1]:81', origins: apart}\n",
            );
        assert!(all.contains("SHA256:") && all.contains("2222") && all.contains("[::1]"));
        again(&all);
    }

    #[test]
    fn every_kind_of_key_survives() {
        for key in [
            include_str!("../key/fixtures/rsa.pkcs1"),
            include_str!("../key/fixtures/ed25519.pkcs8"),
            include_str!("../key/fixtures/p256.sec1"),
            include_str!("../key/fixtures/p521.pkcs8"),
        ] {
            let key = format!("{}\n", key.trim()).replace('\n', "\n      ");
            let text = fixtures::yaml(1);
            let (head, _) = text.split_once("private_key: |").unwrap();
            again(&format!("{head}private_key: |\n      {key}\n"));
        }
    }
}
