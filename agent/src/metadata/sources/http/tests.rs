use tokio::time::Instant;

use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures::{Say, Server};

async fn asked(say: Say) -> Result<Answer, SourceFault> {
    let server = Server::new(move |_| say.clone()).await;
    Http::new(server.url.clone()).get("/x", None).await
}

async fn code(say: Say) -> &'static str {
    asked(say).await.unwrap_err().code()
}

fn body(bytes: &[u8]) -> Result<Answer, SourceFault> {
    Ok(Answer::Body(Secret::new(bytes.to_vec())))
}

#[tokio::test]
async fn an_answer_is_read_whole() {
    let text: Vec<u8> = (0..=255).cycle().take(LIMIT).collect();
    assert_eq!(asked(Say::ok(&text)).await, body(&text));
    assert_eq!(asked(Say::ok("")).await, body(b""));
}

#[tokio::test]
async fn each_status_is_its_own_fact() {
    assert_eq!(asked(Say::status(404)).await, Ok(Answer::None));
    assert_eq!(asked(Say::status(410)).await, Ok(Answer::None));
    assert_eq!(asked(Say::status(401)).await, Ok(Answer::Unauthorized));
    for status in [204, 400, 403, 500, 503] {
        let fault = asked(Say::status(status)).await.unwrap_err();
        assert_eq!(fault.code(), "metadata-http");
        assert!(fault.to_string().contains(&status.to_string()), "{fault}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::new(|_| Say::ok("trap")).await;
    assert_eq!(
        code(Say::Redirect(other.url.clone())).await,
        "metadata-http"
    );
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
    let (stall, silence) = tokio::join!(asked(Say::Stall), asked(Say::Silence));
    for fault in [stall.unwrap_err(), silence.unwrap_err()] {
        assert_eq!(fault.code(), "metadata-unfinished");
        assert!(fault.to_string().contains("within 5 s"), "{fault}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let server = Server::new(|_| Say::Silence).await;
    let url = server.url.clone();
    drop(server);
    tokio::task::yield_now().await;
    let fault = Http::new(url).get("/x", None).await.unwrap_err();
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
    let http = Http::new(server.url.clone());
    assert_eq!(http.put("/token", ("X-Token", "abc")).await, body(b"yes"));
    assert_eq!(
        http.get("/data", Some(("X-Token", "abc"))).await,
        body(b"yes")
    );
    assert_eq!(server.requests(), ["put /token", "get /data"]);
}
