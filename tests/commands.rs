//! The commands of the Makefile work in a fresh clone: each builds what it runs, in one build, and
//! says how far it is.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{paths, process};
use serde_json::Value;

/// The commands that `make` would run for these targets.
fn recipes(targets: &[&str]) -> Vec<String> {
    let mut make = Command::new("make");
    make.arg("--dry-run")
        .args(targets)
        .current_dir(paths::top());
    // The tests may have been started by make themselves.
    for inherited in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS"] {
        make.env_remove(inherited);
    }
    let text = process::run(&mut make).unwrap().replace("\\\n", " ");
    text.lines().map(str::to_owned).collect()
}

/// The arguments of the call of cargo in a command.
fn cargo(command: &str) -> Option<Vec<&str>> {
    let (_, arguments) = command.split_once("cargo ")?;
    let words = arguments.split_whitespace();
    Some(words.take_while(|word| *word != "--").collect())
}

/// What cargo would compile for these arguments.
fn units(arguments: &[&str]) -> Vec<Value> {
    let mut cargo = Command::new("cargo");
    // To run is to build first.
    let builds = arguments
        .iter()
        .map(|word| if *word == "run" { "build" } else { word });
    cargo.args(builds);
    cargo.args(["-Zunstable-options", "--unit-graph"]);
    // Stable Rust has the option for its own tests only.
    cargo.env("RUSTC_BOOTSTRAP", "1").current_dir(paths::top());
    let graph: Value = serde_json::from_str(&process::run(&mut cargo).unwrap()).unwrap();
    graph["units"].as_array().unwrap().clone()
}

/// The programs that cargo would build, as their paths below `target`.
fn programs(units: &[Value]) -> BTreeSet<String> {
    let is_program = |unit: &&Value| {
        let kind = unit["target"]["kind"].as_array().unwrap();
        kind.contains(&"bin".into()) && unit["mode"] == "build"
    };
    let path = |unit: &Value| {
        let released = unit["profile"]["name"] == "release";
        let folder = if released { "release" } else { "debug" };
        format!("{folder}/{}", unit["target"]["name"].as_str().unwrap())
    };
    units.iter().filter(is_program).map(path).collect()
}

#[test]
fn each_target_builds_the_programs_that_it_runs() {
    // What the programs run in turn (`harness::paths::helper`).
    let cases: [(&str, &[&str]); 4] = [
        ("demo", &["debug/vsock-connect"]),
        ("test", &["debug/vsock-connect"]),
        ("bench", &["release/bench-load", "release/vsock-connect"]),
        ("bench-recovery", &[]),
    ];
    for (target, helpers) in cases {
        let recipes = recipes(&[target]);
        let calls = recipes.iter().filter_map(|command| cargo(command));
        let built: BTreeSet<_> = calls.flat_map(|call| programs(&units(&call))).collect();
        let run = recipes
            .iter()
            .flat_map(|command| command.split_whitespace())
            .filter_map(|word| word.strip_prefix("target/"))
            .filter(|path| path.starts_with("debug/") || path.starts_with("release/"));
        for program in run.chain(helpers.iter().copied()) {
            assert!(
                built.contains(program),
                "make {target}: {program}: {built:?}"
            );
        }
    }
}

/// Each library that cargo would compile for these arguments, with its features.
fn libraries(arguments: &[&str]) -> BTreeSet<String> {
    let of = |unit: &Value| {
        let keys = ["pkg_id", "target", "mode", "platform", "features"];
        keys.map(|key| unit[key].to_string()).concat()
    };
    units(arguments).iter().map(of).collect()
}

/// Cargo compiles a library again where another selection of packages asks for other features.
#[test]
fn the_tests_compile_nothing_that_the_demo_has_compiled_with_other_features() {
    let package = fs::read_to_string(paths::top().join("agent/debian/build")).unwrap();
    let mut commands = recipes(&["demo", "test"]);
    let lines = package.lines();
    commands.extend(lines.map(|line| line.replace("\"$cache\"", "target")));
    // The package itself has a profile of its own.
    let builds: Vec<_> = commands
        .iter()
        .filter_map(|command| cargo(command))
        .filter(|call| !call.contains(&"--release"))
        .collect();
    // The programs, the tests and the manual page.
    assert!(builds.len() >= 3, "{commands:#?}");
    let runs = |call: &&Vec<&str>| call[0] == "test" && !call.contains(&"--no-run");
    let tests = builds.iter().find(runs);
    let tests = libraries(tests.unwrap());
    for build in builds {
        let others = libraries(&build);
        let again: Vec<_> = others.difference(&tests).collect();
        assert!(again.is_empty(), "{build:?} compiles {again:#?}");
    }
}

/// A folder with a copy of this file of the repository at its place.
fn with_copy(file: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(file);
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(paths::top().join(file), copy).unwrap();
    dir
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn ci_runs_both_commands_in_the_clone_that_it_is_in_and_ends_as_they_do() {
    let clone = with_copy(".ci/run");
    let makefile = clone.path().join("Makefile");
    let run = |recipes: &str| {
        fs::write(&makefile, recipes).unwrap();
        // From another folder, as a person may.
        let mut run = Command::new(clone.path().join(".ci/run"));
        run.current_dir("/")
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap()
    };
    let lines = |output: &Output| -> Vec<String> {
        let ours = |line: &&str| line.starts_with("ran ");
        said(output)
            .lines()
            .filter(ours)
            .map(str::to_owned)
            .collect()
    };
    let good = "demo test:\n\t@echo ran $@ in $(CURDIR) $$CARGO_INCREMENTAL\n";
    let output = run(good);
    let folder = clone.path().canonicalize().unwrap();
    let expected = ["demo", "test"].map(|name| format!("ran {name} in {} 0", folder.display()));
    assert_eq!(lines(&output), expected, "{output:?}");
    assert!(output.status.success());
    for (recipes, ran) in [
        (
            "demo:\n\t@echo ran demo; false\ntest:\n\t@echo ran test\n",
            1,
        ),
        (
            "demo:\n\t@echo ran demo\ntest:\n\t@echo ran test; false\n",
            2,
        ),
    ] {
        let output = run(recipes);
        assert_eq!(lines(&output).len(), ran, "{output:?}");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

/// A step that runs this shell script.
fn step(dir: &Path, script: &str) -> Command {
    let mut step = Command::new(dir.join("tests/step"));
    step.args(["name", "doing it", "bash", "-c", script]);
    step.current_dir(dir).stdout(Stdio::piped());
    step
}

/// The end of a script that waits until [`until`] has seen its words.
const WAIT: &str = "until [ -e go ]; do sleep 0.02; done";

/// Runs a command in `dir` until it has printed this, lets it go on, and returns all that it prints.
fn until(dir: &Path, mut command: Command, words: &str) -> String {
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    loop {
        let length = stdout.read(&mut buffer).unwrap();
        text += &String::from_utf8_lossy(&buffer[..length]);
        if text.contains(words) {
            fs::write(dir.join("go"), "").unwrap();
        }
        if length == 0 {
            break;
        }
    }
    child.wait().unwrap();
    assert!(text.contains(words), "{text:?}");
    text
}

#[test]
fn a_step_is_announced_with_its_last_duration_and_a_quick_one_is_silent() {
    let dir = with_copy("tests/step");
    let began = Instant::now();
    let output = step(dir.path(), "echo out; echo err >&2").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // A busy machine may be slower.
    let quick = began.elapsed() < Duration::from_secs(1);
    assert!(output.stdout.is_empty() || !quick, "{output:?}");
    let took = dir.path().join("target/steps/name.took");
    for (before, announced) in [
        (None, "doing it (the first time in this clone)\n"),
        (Some("250"), "doing it (took 4 min 10 s last time)\n"),
    ] {
        let _ = fs::remove_file(dir.path().join("go"));
        if let Some(seconds) = before {
            fs::write(&took, seconds).unwrap();
        }
        let text = until(dir.path(), step(dir.path(), WAIT), announced);
        assert!(text.starts_with(announced), "{text}");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("doing it: done in "), "{text}");
    }
}

#[test]
fn a_step_that_fails_shows_its_log_and_ends_with_its_status() {
    let dir = with_copy("tests/step");
    let mut failing = step(dir.path(), "echo out; echo err >&2; exit 7");
    let output = failing.output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let text = said(&output);
    let log = dir.path().join("target/steps/name.log");
    let end = format!("\nout\nerr\nThe whole log is {}\n", log.display());
    assert!(text.contains("doing it: failed after"), "{text}");
    assert!(text.ends_with(&end), "{text}");

    let mut shown = Command::new(dir.path().join("tests/step"));
    shown.args(["--show", "name", "doing it", "bash", "-c"]);
    let output = shown.arg("echo test result: ok; exit 3").output().unwrap();
    let text = said(&output);
    assert!(text.contains("test result: ok\n"), "{text}");
    assert!(
        text.lines().last().unwrap().contains("failed after"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_terminal_shows_how_far_a_step_is() {
    let dir = with_copy("tests/step");
    let bar = "printf '   Building [==>   ] 12/34: one, two\\r'";
    fs::write(dir.path().join("script"), format!("{bar}; {WAIT}")).unwrap();
    let mut terminal = Command::new("script");
    let command = "tests/step name 'doing it' bash script";
    terminal.args(["--quiet", "--return", "--command", command, "/dev/null"]);
    terminal.current_dir(&dir).stdout(Stdio::piped());
    until(dir.path(), terminal, "\r\u{1b}[Kname 12/34 crates ");
}

#[test]
fn links_that_lead_nowhere_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = "# One `two`: three!\n\n# A\n\n# A\n\n[good](#one-two-three) [good](#a-1) [good](b.md#b)\n\
                [good](https://example.org/x) `[code](none.md)` [good](b.md \"title\")\n\
                [bad](b.md#nope) [bad](none.md) ![bad](i.png) [bad](#nope)\n\n[bad]: gone.md\n\n\
                ```\n[code](none.md)\n```\n";
    fs::write(dir.path().join("a.md"), text).unwrap();
    fs::write(dir.path().join("b.md"), "# B\n").unwrap();
    let mut links = Command::new(paths::top().join("tests/links"));
    let output = links
        .args(["a.md", "b.md"])
        .current_dir(&dir)
        .output()
        .unwrap();
    let text = said(&output);
    let named: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    let expected = ["#nope", "b.md#nope", "gone.md", "i.png", "none.md"];
    assert_eq!(named, expected.into(), "{text}");
    assert_eq!(output.status.code(), Some(1));
}
