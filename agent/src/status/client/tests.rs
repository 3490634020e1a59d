use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use serde_json::Value;

use super::*;
use crate::cli::Way;
use crate::status::board::Board;
use crate::status::model::{BridgeState, MetadataState, TunnelState};

mod output;

const SCRIPT: Look = Look {
    form: Form::Json,
    watch: false,
    redraws: false,
    colour: false,
};

/// An agent that says this to its first client, and then hangs up or stays silent.
fn agent(dir: &Path, says: &[String], stays: bool) -> (PathBuf, JoinHandle<()>) {
    let path = dir.join("status.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let says = says.concat();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let _ = stream.write_all(says.as_bytes());
        if stays {
            // Until the client goes.
            let _ = stream.read(&mut [0]);
        }
    });
    (path, thread)
}

fn status(ok: bool) -> String {
    let board = Board::new("127.0.0.1:22");
    if ok {
        board.metadata().update(|m| m.state = MetadataState::Absent);
        board.bridge().update(|b| b.state = BridgeState::Off);
    }
    let status = board.subscribe();
    let line = serde_json::to_string(&*status.borrow()).unwrap();
    line + "\n"
}

fn ask(path: &Path, wait: Option<u64>, look: Look) -> (Result<Exit, Failure>, String) {
    let mut out = Vec::new();
    let goal = Goal {
        wait: wait.is_some(),
        limit: wait.map(Duration::from_millis),
        ..Goal::default()
    };
    let result = follow(path, goal, &look, &mut out, &mut io::sink());
    (result, String::from_utf8(out).unwrap())
}

fn refusal(result: Result<Exit, Failure>) -> (String, Exit) {
    match result {
        Err(Failure::Agent { message, exit }) => (message, exit),
        other => panic!("{other:?}"),
    }
}

/// An agent whose tunnel is not up, is up while something else is wrong, and has gone again.
fn coming_and_going() -> Vec<String> {
    let board = Board::new("127.0.0.1:22");
    let mut says = Vec::new();
    for state in [TunnelState::Opening, TunnelState::Up, TunnelState::Waiting] {
        board.tunnel().update(|tunnel| tunnel.state = state);
        says.push(serde_json::to_string(&*board.subscribe().borrow()).unwrap() + "\n");
    }
    says
}

#[test]
fn a_way_in_is_waited_for_whatever_the_rest() {
    let says = coming_and_going();
    let wait_for = |way, says: &[String], limit: Option<u64>| {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = agent(dir.path(), says, true);
        let goal = Goal {
            way: Some(way),
            wait: true,
            limit: limit.map(Duration::from_millis),
        };
        let mut out = Vec::new();
        let exit = follow(&path, goal, &SCRIPT, &mut out, &mut io::sink()).unwrap();
        let status: Value = serde_json::from_slice(&out).unwrap();
        (exit, status["tunnel"]["state"].clone())
    };
    for way in [Way::Tunnel, Way::Any] {
        // Without a limit, and with one that is never reached.
        for limit in [None, Some(60_000), Some(u64::MAX)] {
            assert_eq!(
                wait_for(way, &says, limit),
                (Exit::Ok, "up".into()),
                "{way:?}"
            );
        }
        let (exit, state) = wait_for(way, &says[..1], Some(50));
        assert_eq!((exit, state), (Exit::NotOk, "opening".into()), "{way:?}");
    }
    let (exit, _) = wait_for(Way::Bridge, &says, Some(50));
    assert_eq!(exit, Exit::NotOk);
    let board = Board::new("127.0.0.1:22");
    for state in [BridgeState::Ready, BridgeState::Foreign] {
        board.bridge().update(|bridge| bridge.state = state);
        let says = [serde_json::to_string(&*board.subscribe().borrow()).unwrap() + "\n"];
        for way in [Way::Bridge, Way::Any] {
            assert_eq!(wait_for(way, &says, None).0, Exit::Ok, "{way:?} {state:?}");
        }
    }
}

#[test]
fn health_is_the_exit_status_and_json_is_one_object() {
    for (ok, exit) in [(true, Exit::Ok), (false, Exit::NotOk)] {
        let dir = tempfile::tempdir().unwrap();
        let (path, thread) = agent(dir.path(), &[status(ok)], true);
        let (result, out) = ask(&path, None, SCRIPT);
        assert_eq!(result.unwrap(), exit);
        assert!(out.starts_with("{\n  \"schema\": 1,\n"), "{out}");
        let printed: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(printed, serde_json::from_str::<Value>(&status(ok)).unwrap());
        thread.join().unwrap();
    }
}

#[test]
fn what_a_newer_agent_says_is_not_lost() {
    let newer = r#"{"schema":9,"version":"9.0","health":"ok","wormhole":{"state":"open"}}"#;
    for (form, expected) in [
        (Form::Json, "wormhole"),
        (Form::Words, "ok: the agent is of another"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = agent(dir.path(), &[format!("{newer}\n")], true);
        let (result, out) = ask(&path, None, Look { form, ..SCRIPT });
        assert_eq!(result.unwrap(), Exit::Ok);
        assert!(out.contains(expected), "{out}");
    }
}

#[test]
fn nobody_there_is_not_running() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.sock");
    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    for path in [missing, stale] {
        for wait in [None, Some(10)] {
            let (result, out) = ask(&path, wait, SCRIPT);
            assert_eq!(refusal(result).1, Exit::NotRunning);
            assert_eq!(out, "");
        }
    }
    let (path, _) = agent(dir.path(), &["HTTP/1.1 400\n".to_owned()], true);
    let (message, exit) = refusal(ask(&path, None, SCRIPT).0);
    assert_eq!(exit, Exit::NotRunning);
    assert!(message.contains("is not a vmagent"), "{message}");
}

#[test]
fn half_a_line_and_a_line_without_end_are_no_answer() {
    for says in [r#"{"health":"o"#.to_owned(), "x".repeat(2 << 20)] {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = agent(dir.path(), &[says], false);
        let (_, exit) = refusal(ask(&path, None, SCRIPT).0);
        assert_eq!(exit, Exit::NotRunning);
    }
}

#[test]
fn waiting_ends_as_soon_as_all_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let says = [status(false), status(false), status(true), status(false)];
    let (path, _) = agent(dir.path(), &says, true);
    let (result, out) = ask(&path, Some(60_000), SCRIPT);
    assert_eq!(result.unwrap(), Exit::Ok);
    assert!(serde_json::from_str::<Value>(&out).unwrap()["health"] == "ok");
}

#[test]
fn waiting_in_vain_prints_the_last_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = agent(dir.path(), &[status(false)], true);
    let (result, out) = ask(&path, Some(50), SCRIPT);
    assert_eq!(result.unwrap(), Exit::NotOk);
    assert!(out.contains("starting"), "{out}");
}

#[test]
fn waiting_includes_an_agent_that_is_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let socket = path.join("status.sock");
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        agent(&path, &[status(true)], true).1.join().unwrap();
    });
    let (result, _) = ask(&socket, Some(60_000), SCRIPT);
    assert_eq!(result.unwrap(), Exit::Ok);
    late.join().unwrap();
}

const TUNNEL: Goal = Goal {
    way: Some(Way::Tunnel),
    wait: true,
    limit: None,
};

#[test]
fn waiting_ends_at_once_where_it_is_not_allowed_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let asked = std::thread::spawn(move || {
        // Of this thread only. Root may open any socket; another user may not.
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
        let mut notes = Vec::new();
        let result = follow(&path, TUNNEL, &SCRIPT, &mut io::sink(), &mut notes);
        (refusal(result).1, notes)
    });
    assert_eq!(asked.join().unwrap(), (Exit::NotAllowed, vec![]));
}

#[test]
fn waiting_says_once_why_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("status.sock");
    let limit = RETRY * 3;
    let goal = Goal {
        limit: Some(limit),
        ..TUNNEL
    };
    let mut notes = Vec::new();
    let result = follow(&socket, goal, &SCRIPT, &mut io::sink(), &mut notes);
    assert_eq!(refusal(result).1, Exit::NotRunning);
    let notes = String::from_utf8(notes).unwrap();
    assert_eq!(notes.lines().count(), 1, "{notes}");
    assert!(
        notes.starts_with("vmagent: waiting: the agent is not running"),
        "{notes}"
    );
}

#[test]
fn watching_prints_a_line_for_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let says = [status(false), status(true)];
    let (path, _) = agent(dir.path(), &says, true);
    let look = Look {
        watch: true,
        ..SCRIPT
    };
    let (result, out) = ask(&path, Some(60_000), look);
    assert_eq!(result.unwrap(), Exit::Ok);
    assert_eq!(out, says.concat());
}

#[test]
fn colour_is_for_terminals_that_can_and_people_who_like_it() {
    let colour = |no_color: Option<&str>, term: Option<&str>| {
        let value = |name: &str| if name == "TERM" { term } else { no_color };
        wants_colour(|name| value(name).map(str::to_owned))
    };
    assert!(colour(None, Some("xterm")));
    assert!(colour(Some(""), Some("vt220")));
    assert!(!colour(Some("1"), Some("xterm")));
    assert!(!colour(None, Some("dumb")));
    assert!(!colour(None, None));
    // `NO_COLOR` switches colours off, not the redrawing.
    let no_color = |name: &str| Some(if name == "TERM" { "xterm" } else { "1" }.to_owned());
    assert!(obeys_escapes(no_color) && !wants_colour(no_color));
}
