//! What all requests over HTTP have in common, whoever they are for.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, redirect};

use crate::config::HttpUrl;
use crate::lookup::Resolver;

/// A client for requests to `to`. Each client sets TLS up for itself: requests are minutes apart,
/// and TLS holds much memory. A client for plain http skips the setup, and so needs no
/// certificates.
///
/// No proxy of the environment stands between: a link-local address means another machine to it,
/// and any proxy would see what is secret. No redirect is followed, and nothing is kept open.
///
/// # Errors
/// If there is no way to make one, such as none for TLS.
pub(crate) fn client(to: &HttpUrl, connect: Duration) -> reqwest::Result<Client> {
    let mut client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .dns_resolver(Resolver)
        .connect_timeout(connect)
        .pool_max_idle_per_host(0);
    if let Some(interface) = to.interface() {
        // The URLs of the library have no zones. Bound to the interface, a socket needs none;
        // since Linux 5.7 that is no privilege.
        client = client.interface(interface);
    }
    #[cfg(feature = "https")]
    if !is_https(to) {
        client = client.tls_certs_only([]);
    }
    client.build()
}

fn is_https(to: &HttpUrl) -> bool {
    let scheme = to.as_str().get(.."https:".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

/// Whether [`client`] has failed because this system has no CA certificates. For https, the
/// client's setup can fail for no other reason.
pub(crate) fn lacks_certificates(to: &HttpUrl, error: &reqwest::Error) -> bool {
    is_https(to) && error.is_builder()
}

/// The advice against missing certificates.
pub(crate) const NO_CERTIFICATES: &str =
    "Install the package ca-certificates. It is tried again by itself.";

/// The last of an error's causes; the first says only that something went wrong.
/// The library's own words name the URL, and with it a token: they are left without it.
pub(crate) fn deepest(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
