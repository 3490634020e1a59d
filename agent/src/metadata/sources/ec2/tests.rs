use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::explain::Explain;
use crate::metadata::fixtures::{Say, Server, document, json, pass, yaml};
use crate::metadata::sources::facts::PublicAddress;
use crate::metadata::sources::tests::look;

/// A service with tokens; each is good for `uses` requests.
async fn service(uses: u32, user_data: Say) -> Server {
    let served = Arc::new(AtomicU32::new(0));
    let left = AtomicU32::new(0);
    Server::new(move |head| {
        if head.starts_with("put /latest/api/token") {
            assert!(head.contains("x-aws-ec2-metadata-token-ttl-seconds: 21600"));
            left.store(uses, Ordering::Relaxed);
            return Say::ok(format!(
                "token{}",
                served.fetch_add(1, Ordering::Relaxed) + 1
            ));
        }
        let token = format!(
            "x-aws-ec2-metadata-token: token{}\r\n",
            served.load(Ordering::Relaxed)
        );
        if !head.contains(&token) || left.load(Ordering::Relaxed) == 0 {
            return Say::status(401);
        }
        left.fetch_sub(1, Ordering::Relaxed);
        match head.split(' ').nth(1) {
            Some("/latest/user-data") => user_data.clone(),
            Some("/latest/meta-data/instance-id") => Say::ok("i-0abc"),
            Some("/latest/meta-data/public-ipv4") => Say::ok("198.51.100.7"),
            _ => Say::status(404),
        }
    })
    .await
}

fn ec2(server: &Server) -> Ec2 {
    Ec2::new(Http::new(&server.base()))
}

async fn read(user_data: impl AsRef<[u8]>) -> Reading {
    let server = service(9, Say::ok(user_data)).await;
    look(&mut ec2(&server)).await
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_has_had_its_day() {
    let server = service(2, Say::ok(yaml(12345))).await;
    let mut source = ec2(&server);
    for _ in 0..3 {
        assert_eq!(look(&mut source).await, Reading::Found(document(12345)));
    }
    let expected = [
        "put /latest/api/token",
        "get /latest/user-data",
        "get /latest/user-data",
        "get /latest/user-data",
        "put /latest/api/token",
        "get /latest/user-data",
    ];
    assert_eq!(server.requests(), expected);
}

#[tokio::test]
async fn a_service_that_takes_no_token_is_a_fault() {
    let server = service(0, Say::ok(yaml(1))).await;
    let reading = look(&mut ec2(&server)).await;
    assert!(matches!(
        reading,
        Reading::Failed(SourceFault::Status { status: 401, .. })
    ));
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_service_without_tokens_is_asked_without() {
    for status in [400, 401, 404, 405, 410, 411, 500, 501, 502] {
        let server = Server::new(move |head| match head.starts_with("put") {
            true => Say::status(status),
            false => Say::ok(yaml(12345)),
        })
        .await;
        let mut source = ec2(&server);
        for _ in 0..2 {
            let reading = look(&mut source).await;
            assert_eq!(reading, Reading::Found(document(12345)), "{status}");
        }
        // After a refusal, no further token is requested.
        let get = "get /latest/user-data";
        assert_eq!(server.requests(), ["put /latest/api/token", get, get]);
    }
}

/// EC2 requires tokens and, during an outage, gives none.
#[tokio::test]
async fn a_service_that_wants_a_token_and_gives_none_is_a_fault_of_the_token() {
    for (status, code) in [
        (400, "metadata-http"),
        (405, "metadata-http"),
        (500, "metadata-server-error"),
    ] {
        let server = Server::new(move |head| match head.starts_with("put") {
            true => Say::status(status),
            false => Say::status(401),
        })
        .await;
        let Reading::Failed(fault) = look(&mut ec2(&server)).await else {
            panic!("{status}")
        };
        assert_eq!(fault.code(), code, "{fault}");
        let said = fault.to_string();
        assert!(
            said.contains("/latest/api/token") && said.contains(&status.to_string()),
            "{said}"
        );
    }
    for status in [403, 429, 503] {
        let server = Server::new(move |_| Say::status(status)).await;
        let reading = look(&mut ec2(&server)).await;
        assert!(matches!(reading, Reading::Failed(_)), "{status}");
        assert_eq!(server.requests(), ["put /latest/api/token"]);
    }
}

/// OpenStack's nova answers 404 to every request of a machine that it does not find.
#[tokio::test]
async fn no_user_data_counts_from_a_service_that_knows_the_machine() {
    let lost = Server::new(|_| Say::status(404)).await;
    let Reading::Silent { fault, blank: None } = look(&mut ec2(&lost)).await else {
        panic!()
    };
    assert_eq!(fault.code(), "metadata-http");
    let empty = service(9, Say::ok(" \n")).await;
    let Reading::Silent { fault, .. } = look(&mut ec2(&empty)).await else {
        panic!()
    };
    assert_eq!(fault.code(), "document-empty");
}

#[tokio::test]
async fn a_token_that_can_not_be_one_is_refused() {
    for token in ["", "a b", "a\r\nx-evil: 1"] {
        let server = Server::new(move |_| Say::ok(token)).await;
        let reading = look(&mut ec2(&server)).await;
        assert!(
            matches!(reading, Reading::Failed(SourceFault::Unfinished { .. })),
            "{token}"
        );
    }
}

#[tokio::test]
async fn user_data_for_us_is_found() {
    for text in [
        yaml(12345),
        format!("#cloud-config\n{}", yaml(12345)),
        json(12345).to_string(),
    ] {
        assert_eq!(read(text).await, Reading::Found(document(12345)));
    }
}

#[tokio::test]
async fn user_data_for_others_is_none_of_ours() {
    let document = yaml(1);
    for text in [
        "#cloud-config\nusers: []\n".to_owned(),
        format!("#!/bin/sh\ncat > /etc/vmagent/tunnel.yaml <<E\n{document}\nE\n"),
        format!("#cloud-boothook\n{document}"),
        format!("## template: jinja\n#cloud-config\n{document}"),
        "hostname=web1".to_owned(),
    ] {
        assert_eq!(read(&text).await, Reading::Absent, "{text}");
    }
    let none = service(9, Say::status(404)).await;
    let reading = look(&mut ec2(&none)).await;
    assert_eq!(reading, Reading::Absent);
}

#[tokio::test]
async fn user_data_that_is_wrong_is_a_fault() {
    let wrong = yaml(1).replace("port: 1\n", "port: 70000\n");
    let Reading::Failed(fault) = read(&wrong).await else {
        panic!()
    };
    assert!(
        fault
            .to_string()
            .ends_with("user-data: tunnel.port: found 70000, expected 0 to 65535"),
        "{fault}"
    );
    let Reading::Failed(fault) = read([0x7f, 0xff, 0xfe, 0]).await else {
        panic!()
    };
    assert!(fault.to_string().contains("binary"), "{fault}");
}

#[tokio::test]
async fn the_facts_are_what_the_service_says() {
    let server = service(9, Say::status(404)).await;
    let facts = ec2(&server).facts().await.unwrap().unwrap();
    let own = PublicAddress::Own("198.51.100.7".parse().unwrap());
    assert_eq!(facts.public, own);
    assert_eq!(facts.instance_id.as_deref(), Some("i-0abc"));
}

/// By the documents of both: "Use the Instance Metadata Service" of the EC2 user guide, and
/// docs/mmds/mmds-user-guide.md of Firecracker.
#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let given = AtomicU32::new(0);
    let server = Server::new(move |head| {
        if head.starts_with("put") {
            assert!(head.contains("\r\nx-metadata-token-ttl-seconds: 21600\r\n"));
            let token = given.fetch_add(1, Ordering::Relaxed) + 1;
            return Say::ok(token.to_string()).with("X-aws-ec2-metadata-token-ttl-seconds", "100");
        }
        let token = given.load(Ordering::Relaxed);
        assert!(head.contains(&format!("\r\nx-aws-ec2-metadata-token: {token}\r\n")));
        assert!(head.contains(&format!("\r\nx-metadata-token: {token}\r\n")));
        Say::ok(yaml(12345))
    })
    .await;
    let mut source = ec2(&server);
    let mut tokens = async || {
        assert_eq!(look(&mut source).await, Reading::Found(document(12345)));
        let requests = server.requests();
        requests
            .iter()
            .filter(|request| request.starts_with("put"))
            .count()
    };
    assert_eq!(tokens().await, 1);
    pass(Duration::from_secs(80)).await;
    assert_eq!(tokens().await, 1);
    pass(Duration::from_secs(15)).await;
    assert_eq!(tokens().await, 2);
}
