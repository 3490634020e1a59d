use super::*;

#[test]
fn a_probe_takes_the_way_that_users_take() {
    let peer: IpAddr = "192.0.2.1".parse().unwrap();
    for (bind, expected) in [
        ("0.0.0.0", Route::Outside(peer)),
        ("*", Route::Outside(peer)),
        ("", Route::Outside(peer)),
        ("::", Route::Outside(peer)),
        (
            "198.51.100.7",
            Route::Outside("198.51.100.7".parse().unwrap()),
        ),
        ("127.0.0.1", Route::Inside("127.0.0.1".to_owned())),
        ("127.64.0.9", Route::Inside("127.64.0.9".to_owned())),
        ("::1", Route::Inside("::1".to_owned())),
        ("localhost", Route::Inside("localhost".to_owned())),
        ("web1.vm", Route::Inside("web1.vm".to_owned())),
    ] {
        assert_eq!(route(bind, peer), expected, "{bind:?}");
    }
}

#[test]
fn only_the_greeting_of_this_probe_opens_it() {
    let nonce = Nonce(7);
    assert!(nonce.opens(greeting(nonce).as_bytes()));
    assert!(!Nonce(8).opens(greeting(nonce).as_bytes()));
    assert!(!nonce.opens(b"SSH-2.0-OpenSSH_10.0\r\n"));
    assert!(!nonce.opens(b""));
}

#[test]
fn an_answer_is_one_line_that_fits() {
    let banner = Ok(format!("SSH-2.0-{}", "x".repeat(247)));
    let answer = Nonce(7).answer(&banner);
    assert!(answer.len() <= ANSWER);
    assert!(complete(answer.as_bytes()));
    assert!(!complete(&answer.as_bytes()[..answer.len() - 1]));
}
