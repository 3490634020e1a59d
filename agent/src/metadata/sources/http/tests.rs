use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures::{Say, Server};

async fn asked(say: Say) -> Result<Answer, SourceFault> {
    let server = Server::new(move |_| say.clone()).await;
    Http::new(&server.base()).get("/x", &[]).await
}

async fn fault(say: Say) -> SourceFault {
    asked(say).await.unwrap_err()
}

async fn code(say: Say) -> &'static str {
    fault(say).await.code()
}

fn body(answer: Result<Answer, SourceFault>) -> Vec<u8> {
    match answer {
        Ok(Answer::Page(page)) => page.body.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_read_whole() {
    let text: Vec<u8> = (0..=255).cycle().take(LIMIT).collect();
    assert!(body(asked(Say::ok(&text)).await) == text);
    assert!(body(asked(Say::ok("")).await).is_empty());
}

#[tokio::test]
async fn each_status_is_its_own_fact() {
    for (status, answer) in [
        (204, Answer::NoContent),
        (404, Answer::None),
        (410, Answer::Gone),
        (304, Answer::Unchanged),
        (401, Answer::Unauthorized),
    ] {
        assert_eq!(asked(Say::status(status)).await, Ok(answer));
    }
    for (status, code) in [
        (400, "metadata-http"),
        (403, "metadata-forbidden"),
        (429, "metadata-throttled"),
        (500, "metadata-server-error"),
        (503, "metadata-server-error"),
    ] {
        let fault = fault(Say::status(status)).await;
        assert_eq!(fault.code(), code, "{status}");
        assert!(fault.to_string().contains(&status.to_string()), "{fault}");
        assert_eq!(fault.retry_after(), None);
    }
}

#[tokio::test]
async fn a_service_says_for_how_long_to_leave_it_alone() {
    for (status, value, seconds) in [
        (429, "7", 7),
        (503, "99999", 600),
        (503, "Sun, 06 Nov 1994 08:50:07 GMT", 30),
    ] {
        let say = Say::status(status)
            .with("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .with("Retry-After", value);
        let rest = fault(say).await.retry_after();
        assert_eq!(rest, Some(Duration::from_secs(seconds)), "{value}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_says_where_it_led() {
    let other = Server::new(|_| Say::ok("trap")).await;
    let fault = fault(Say::Redirect(format!("{}/login?token=hunter2", other.url))).await;
    assert!(!fault.to_string().contains("hunter2"), "{fault}");
    assert_eq!(fault.code(), "metadata-redirected");
    assert!(fault.to_string().contains(&other.url), "{fault}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn what_is_too_large_is_cut_and_named() {
    let started = Instant::now();
    assert_eq!(code(Say::Announced(100 << 20)).await, "metadata-too-large");
    assert_eq!(
        code(Say::Announced(LIMIT as u64 + 1)).await,
        "metadata-too-large"
    );
    assert_eq!(code(Say::Endless).await, "metadata-too-large");
    assert!(started.elapsed() < WHOLE, "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut_and_named() {
    let (stall, silence, trickle) =
        tokio::join!(fault(Say::Stall), fault(Say::Silence), fault(Say::Trickle));
    for fault in [stall, silence, trickle] {
        assert_eq!(fault.code(), "metadata-unfinished");
        assert!(fault.to_string().contains("within 5 s"), "{fault}");
    }
    assert_eq!(code(Say::Truncated).await, "metadata-unfinished");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let server = Server::new(|_| Say::Silence).await;
    let url = server.base();
    drop(server);
    tokio::task::yield_now().await;
    let fault = Http::new(&url).get("/x", &[]).await.unwrap_err();
    assert!(fault.is_unreachable(), "{fault:?}");
    assert!(fault.to_string().contains("refused"), "{fault}");
}

#[tokio::test]
async fn a_header_is_sent() {
    let server = Server::new(|head| match head.contains("x-token: abc\r\n") {
        true => Say::ok("yes"),
        false => Say::status(400),
    })
    .await;
    let http = Http::new(&server.base());
    let token: Headers<'_> = &[("X-Token", "abc")];
    assert_eq!(body(http.put("/token", token).await), b"yes");
    assert_eq!(body(http.get("/data", token).await), b"yes");
    assert_eq!(server.requests(), ["put /token", "get /data"]);
}

#[tokio::test]
async fn a_query_is_not_for_all_to_see() {
    let server = Server::new(|_| Say::status(500)).await;
    let url = HttpUrl::parse(&format!("{}/vm?token=secret", server.url)).unwrap();
    let fault = Http::new(&url).get("", &[]).await.unwrap_err();
    assert!(fault.to_string().contains("/vm answered"), "{fault}");
    assert_eq!(server.requests(), ["get /vm?token=secret"]);
}

#[tokio::test]
async fn a_slash_at_the_end_is_for_the_base_of_others_alone() {
    let server = Server::new(|_| Say::ok("")).await;
    let http = Http::new(&HttpUrl::parse(&format!("{}/dir/", server.url)).unwrap());
    for path in ["", "/x"] {
        body(http.get(path, &[]).await);
    }
    assert_eq!(server.requests(), ["get /dir/", "get /dir/x"]);
}

/// Serves one request on an IPv6 address, and returns what was asked.
async fn one_on(address: std::net::SocketAddrV6, url: &str) -> String {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let http = Http::new(&HttpUrl::parse(&url.replace("PORT", &port.to_string())).unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).await.unwrap();
        let say = b"HTTP/1.1 200 x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nyes";
        stream.write_all(say).await.unwrap();
        String::from_utf8_lossy(&head[..length]).to_lowercase()
    };
    let (answer, head) = tokio::join!(http.get("/x", &[]), serve);
    assert_eq!(body(answer), b"yes");
    head
}

#[tokio::test]
async fn an_address_of_ipv6_is_reached_also_by_its_interface() {
    let any = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 0, 0, 0);
    let head = one_on(any, "http://[::1]:PORT").await;
    assert!(head.contains("host: [::1]:"), "{head}");
    // RFC 6874 section 3: the zone is nobody's business but this machine's.
    let head = one_on(any, "http://[::1%25lo]:PORT").await;
    assert!(head.contains("host: [::1]:"), "{head}");
    let http = Http::new(&HttpUrl::parse("http://[::1%25none]:1").unwrap());
    let fault = http.get("/x", &[]).await.unwrap_err();
    assert!(fault.is_unreachable(), "{fault:?}");
    assert!(fault.to_string().contains("No such device"), "{fault}");
}
