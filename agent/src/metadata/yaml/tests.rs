use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value(text: &str) -> Value {
    compose(text)
        .unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
        .0
        .clone()
}

fn problem(text: &str) -> String {
    match compose(text).err().unwrap() {
        Mistake::Syntax { problem, .. } => problem,
        other @ Mistake::Second(_) => panic!("{other:?}"),
    }
}

#[test]
fn scalars_have_the_types_of_the_core_schema() {
    let text = "[~, '', null, true, FALSE, yes, 1, -1, +2, 0x1f, 0o17, 1.5, 1e3, .inf, nan, 1e100.net, \"1\", !!str 1, 2026-01-01, 022, 1:30]";
    let expected = json!([
        null,
        "",
        null,
        true,
        false,
        "yes",
        1,
        -1,
        2,
        31,
        15,
        1.5,
        1000.0,
        ".inf",
        "nan",
        "1e100.net",
        "1",
        "1",
        "2026-01-01",
        "022",
        "1:30"
    ]);
    assert_eq!(value(text), expected);
}

#[test]
fn cloud_config_of_every_kind_is_read() {
    let text = "#cloud-config
users: [default]
write_files:
- {path: /a, content: !!binary aGVsbG8=, owner: root}
secret: !vault |
  line one
  line two
base: &base {a: 1, b: 2}
merged: {<<: *base, b: 3}
twice: {<<: [*base, {c: 4}]}
1: number
";
    let value = value(text);
    assert_eq!(value["write_files"][0]["content"], "aGVsbG8=");
    assert_eq!(value["secret"], "line one\nline two\n");
    assert_eq!(value["merged"], json!({"a": 1, "b": 3}));
    assert_eq!(value["twice"], json!({"a": 1, "b": 2, "c": 4}));
    assert_eq!(value["1"], "number");
}

#[test]
fn an_empty_text_is_null_and_two_documents_are_one_too_many() {
    assert_eq!(value(""), Value::Null);
    assert_eq!(value("# nothing\n"), Value::Null);
    assert_eq!(value("---\na: 1\n...\n"), json!({"a": 1}));
    assert!(matches!(
        compose("a: 1\n---\nb: 2\n"),
        Err(Mistake::Second(2))
    ));
}

#[test]
fn bombs_do_not_go_off() {
    let mut aliases = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{},", level - 1).repeat(9);
        aliases.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(500_000),
        "*a,".repeat(20_000)
    );
    let nodes = format!("[{}]", "[],".repeat(300_000));
    for bomb in [aliases, long, nodes] {
        let problem = problem(&bomb);
        assert!(problem.contains("larger"), "{problem}");
    }
    for bomb in ["[", "{", "- ", "? ", "a: &a [*a, ", "{a: "] {
        assert!(compose(&bomb.repeat(100_000)).is_err(), "{bomb}");
    }
    assert!(compose("a: &a [*a]").is_err());
}

#[test]
fn a_complaint_says_where_but_not_what() {
    let problem = problem("a: 1\nb: [hunter2\nc: 2\n");
    assert!(problem.contains("line "), "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
}

proptest! {
    #[test]
    fn nothing_that_can_be_written_breaks_it(text: String) {
        let _ = compose(&text);
    }

    #[test]
    fn nothing_that_looks_like_yaml_breaks_it(text in "[-a-c:?,&*!|>'\"{}\\[\\]#%@`<~0-9 \n\t]{0,80}") {
        let _ = compose(&text);
    }

    #[test]
    fn json_is_read_as_json_reads_it(numbers: Vec<i32>, words in proptest::collection::vec("[a-z ]{0,9}", 0..5)) {
        let tree = json!({"numbers": numbers, "words": words});
        prop_assert_eq!(&value(&tree.to_string()), &tree);
    }
}
