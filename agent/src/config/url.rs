//! URLs of services, checked when they are read.

use std::borrow::Cow;
use std::fmt;

/// An `http://` or `https://` URL.
#[derive(Clone, PartialEq, Eq)]
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
        let text = text.trim();
        let expected = || {
            let found = shown(text);
            format!("found \"{found}\", expected \"http://HOST[:PORT]\"")
        };
        // The URL library accepts more: it reads `https:///vms` as the host vms, and ignores tabs.
        let authority = text.split_once("://").map(|(_, rest)| rest);
        let no_host =
            authority.is_none_or(|rest| rest.is_empty() || rest.starts_with(['/', '\\', '?', '#']));
        if no_host || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(expected());
        }
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

    /// The URL as [`parse`](Self::parse) reads it, with the name of the interface.
    #[must_use]
    pub fn as_written(&self) -> String {
        match &self.interface {
            Some(interface) => self.text.replacen(']', &format!("%25{interface}]"), 1),
            None => self.text.clone(),
        }
    }

    /// The interface that connections have to take.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }
}

impl fmt::Display for HttpUrl {
    /// The URL without its query, which may have a token in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.text))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpUrl({self})")
    }
}

/// A text that may be a URL, valid or not, in a form that is safe to print: without the query, the
/// fragment and the account, which may hold secrets. A query may lack its `?`, so `&` ends the text too.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    let text = text.split(['?', '#', '&']).next().unwrap_or_default();
    let Some((before, host)) = text.rsplit_once('@') else {
        return Cow::Borrowed(text);
    };
    let scheme = before.find("//").map_or("", |end| &before[..end + 2]);
    Cow::Owned(format!("{scheme}...@{host}"))
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
    fn space_around_a_url_is_ignored() {
        for text in [" http://h/vm", "http://h/vm\n", "\thttp://h/vm \r\n"] {
            assert_eq!(HttpUrl::parse(text).unwrap().as_str(), "http://h/vm");
        }
        assert!(HttpUrl::parse("http://h/v m").is_err());
    }

    #[test]
    fn a_query_is_for_the_service_alone() {
        let url = HttpUrl::parse("http://h:1/vms?token=hunter2#hunter2").unwrap();
        assert_eq!(url.to_string(), "http://h:1/vms");
        assert_eq!(format!("{url:?}"), "HttpUrl(http://h:1/vms)");
        assert!(url.as_str().contains("token=hunter2"));
        for text in ["http://h/vms", "/run/x", "vsock:22", ""] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("ttp://h/x&token=hunter2"), "ttp://h/x");
        assert_eq!(shown("http://u:hunter2@h/x@y"), "http://...@y");
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
            "http:///vms?token=hunter2",
            "https:///vms?token=hunter2",
            "https:vms?token=hunter2",
            "http:\\\\host",
            "http://?token=hunter2",
            "http://#hunter2",
            "http://ho\tst/?token=hunter2",
            "ftp://user:hunter2@host/",
            "user:hunter2@host/?token=hunter2",
            "http://user:hunter2@[x/",
        ] {
            let problem = HttpUrl::parse(text).unwrap_err();
            assert!(
                problem.contains("expected \"http://HOST"),
                "{text}: {problem}"
            );
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let problem = HttpUrl::parse("http://user:secret@host/").unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
    }
}
