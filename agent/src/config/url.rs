//! URLs of services, checked when they are read.

use std::fmt;

/// An `http://` or `https://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    text: String,
    interface: Option<String>,
}

impl Default for HttpUrl {
    /// Where every cloud has its metadata service.
    fn default() -> Self {
        Self {
            text: "http://169.254.169.254".to_owned(),
            interface: None,
        }
    }
}

impl HttpUrl {
    /// Reads one. A link-local address may name its interface, as in
    /// `http://[fe80::a9fe:a9fe%25eth0]` (RFC 6874), also with a bare `%`.
    ///
    /// # Errors
    /// What was found and what is expected, or that this program was built without https.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("found \"{text}\", expected \"http://HOST[:PORT]\"");
        let (plain, interface) = without_zone(text).ok_or_else(expected)?;
        let url = reqwest::Url::parse(&plain).map_err(|_| expected())?;
        if !url.has_host() || !matches!(url.scheme(), "http" | "https") {
            return Err(expected());
        }
        if url.scheme() == "https" && !cfg!(feature = "https") {
            return Err("this program was built without https".to_owned());
        }
        // It would stand in the status for all to read; so it is not repeated here either.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("found a URL with a user name in it, expected one without".to_owned());
        }
        Ok(Self {
            text: plain,
            interface,
        })
    }

    /// Without the name of the interface: no request carries it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The interface that connections have to take.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Takes the zone out of an address in brackets; none where there is nothing in it.
fn without_zone(text: &str) -> Option<(String, Option<String>)> {
    let parts = text
        .split_once("://[")
        .and_then(|(scheme, rest)| Some((scheme, rest.split_once(']')?)));
    let Some((scheme, (host, rest))) = parts else {
        return Some((text.to_owned(), None));
    };
    let Some((address, zone)) = host.split_once('%') else {
        return Some((text.to_owned(), None));
    };
    let zone = zone.strip_prefix("25").unwrap_or(zone);
    // IFNAMSIZ with its terminator (linux/if.h); see dev_valid_name() for the rest.
    let name = (1..16).contains(&zone.len())
        && zone.bytes().all(|byte| byte.is_ascii_graphic())
        && !zone.contains(['/', ':', '%']);
    name.then(|| {
        (
            format!("{scheme}://[{address}]{rest}"),
            Some(zone.to_owned()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_name_its_interface() {
        for text in [
            "http://[fe80::a9fe:a9fe%25eth0]:8080/base",
            "http://[fe80::a9fe:a9fe%eth0]:8080/base",
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!(url.as_str(), "http://[fe80::a9fe:a9fe]:8080/base");
            assert_eq!(url.interface(), Some("eth0"));
        }
        let url = HttpUrl::parse("http://[fd00:ec2::254]").unwrap();
        assert_eq!(
            (url.as_str(), url.interface()),
            ("http://[fd00:ec2::254]", None)
        );
    }

    #[test]
    fn what_is_no_url_of_a_service_is_refused() {
        for text in [
            "",
            "169.254.169.254",
            "ftp://host",
            "file:///etc/passwd",
            "http://[fe80::1%25]",
            "http://[fe80::1%25a/b]",
            "http://[fe80::1%25sixteen-letters-]",
            "http://[fe80::1%25eth0",
        ] {
            let problem = HttpUrl::parse(text).unwrap_err();
            assert!(
                problem.contains("expected \"http://HOST"),
                "{text}: {problem}"
            );
        }
        let problem = HttpUrl::parse("http://user:secret@host/").unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
    }
}
