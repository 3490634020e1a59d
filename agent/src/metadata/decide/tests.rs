use proptest::prelude::*;

use super::*;
use crate::config::SourceName::{Credential, Ec2, File};
use crate::metadata::document::Carrier;
use crate::metadata::fixtures;

fn found(port: u16) -> Reading {
    Reading::Found(document(port))
}

/// Documents 1 and 2, made once: they are compared, not read.
fn document(port: u16) -> Arc<Document> {
    use std::sync::LazyLock;
    static BOTH: LazyLock<[Arc<Document>; 2]> =
        LazyLock::new(|| [fixtures::document(1), fixtures::document(2)]);
    Arc::clone(&BOTH[usize::from(port) - 1])
}

fn last(source: SourceName) -> Found {
    let document = document(1);
    Found { document, source }
}

fn unreachable() -> SourceFault {
    let (url, problem) = ("http://x".to_owned(), "refused".to_owned());
    SourceFault::Unreachable { url, problem }
}

fn status() -> SourceFault {
    SourceFault::Status {
        url: "http://x".to_owned(),
        status: 500,
        retry_after: None,
    }
}

fn empty() -> Reading {
    Reading::of("/etc/vmagent/tunnel.yaml", b"null\n", Carrier::Own)
}

fn silent(blank: Option<Blank>) -> Reading {
    let fault = status();
    Reading::Silent { fault, blank }
}

fn blank() -> Blank {
    let Reading::Empty(blank) = empty() else {
        panic!();
    };
    blank
}

fn take(port: u16, source: SourceName, fault: Option<SourceFault>) -> Decision {
    let document = document(port);
    Decision::Take(Found { document, source }, fault)
}

#[test]
fn every_row_of_the_table() {
    use Reading::{Absent, Failed};
    let rows = [
        // Nothing in force.
        (None, vec![(File, found(2))], take(2, File, None)),
        (
            None,
            vec![(File, Absent), (Ec2, found(2))],
            take(2, Ec2, None),
        ),
        (
            None,
            vec![(File, empty()), (Ec2, found(2))],
            take(2, Ec2, None),
        ),
        (
            None,
            vec![(File, Failed(status())), (Ec2, found(2))],
            take(2, Ec2, Some(status())),
        ),
        (
            None,
            vec![(File, Absent), (Ec2, Absent)],
            Decision::Drop(None),
        ),
        (
            None,
            vec![(File, empty()), (Ec2, Absent)],
            Decision::Drop(Some(blank())),
        ),
        (
            None,
            vec![(File, Absent), (Ec2, Failed(unreachable()))],
            Decision::Fail(unreachable()),
        ),
        (
            None,
            vec![(File, Failed(unreachable())), (Ec2, Failed(status()))],
            Decision::Fail(status()),
        ),
        (
            None,
            vec![(File, Absent), (Ec2, silent(Some(blank())))],
            Decision::Drop(Some(blank())),
        ),
        (
            None,
            vec![(File, silent(None)), (Ec2, Failed(unreachable()))],
            Decision::Fail(unreachable()),
        ),
        (None, vec![], Decision::Drop(None)),
        // A document of ec2's in force.
        (
            Some(Ec2),
            vec![(File, Absent), (Ec2, found(2))],
            take(2, Ec2, None),
        ),
        (Some(Ec2), vec![(File, found(2))], take(2, File, None)),
        (
            Some(Ec2),
            vec![(File, Absent), (Ec2, Failed(status()))],
            Decision::Keep(status()),
        ),
        (
            Some(Ec2),
            vec![(File, Failed(status())), (Ec2, Failed(unreachable()))],
            Decision::Keep(unreachable()),
        ),
        (
            Some(Ec2),
            vec![(File, Failed(status())), (Ec2, found(2))],
            take(2, Ec2, Some(status())),
        ),
        (
            Some(Ec2),
            vec![(File, Absent), (Ec2, Absent)],
            Decision::Drop(None),
        ),
        (
            Some(Ec2),
            vec![(File, Absent), (Ec2, silent(None))],
            Decision::Keep(status()),
        ),
        (
            Some(Ec2),
            vec![(File, silent(Some(blank()))), (Ec2, Absent)],
            Decision::Drop(Some(blank())),
        ),
        // A document of the file's in force.
        (
            Some(File),
            vec![(File, Failed(status())), (Ec2, found(2))],
            Decision::Keep(status()),
        ),
        (
            Some(File),
            vec![(File, Absent), (Ec2, found(2))],
            take(2, Ec2, None),
        ),
        // The file is gone, and no service was ever there.
        (
            Some(File),
            vec![(File, Absent), (Ec2, Failed(unreachable()))],
            Decision::Fail(unreachable()),
        ),
        (
            Some(File),
            vec![(File, empty()), (Ec2, Absent)],
            Decision::Drop(Some(blank())),
        ),
        // Not heard of.
        (
            Some(Credential),
            vec![(Ec2, Failed(unreachable()))],
            Decision::Keep(unreachable()),
        ),
    ];
    for (before, readings, expected) in rows {
        let decision = decide(before.map(last).as_ref(), &readings);
        assert_eq!(decision, expected, "{before:?} {readings:?}");
    }
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        Just(Reading::Absent),
        Just(empty()),
        Just(silent(None)),
        Just(silent(Some(blank()))),
        Just(Reading::Failed(unreachable())),
        Just(Reading::Failed(status())),
        Just(found(2)),
    ]
}

/// A round as `walk` makes it: in order, up to the first document.
fn any_round() -> impl Strategy<Value = Vec<(SourceName, Reading)>> {
    let names = SourceName::ALL;
    proptest::collection::vec(any_reading(), names.len()).prop_map(move |readings| {
        let mut round = Vec::new();
        for (name, reading) in names.into_iter().zip(readings) {
            let last = matches!(reading, Reading::Found(_));
            round.push((name, reading));
            if last {
                break;
            }
        }
        round
    })
}

proptest! {
    #[test]
    fn the_failure_of_its_source_never_takes_a_document_down(
        round in any_round(),
        source in prop::sample::select(SourceName::ALL.to_vec()),
    ) {
        let last = last(source);
        let failed = round.iter().any(|(name, reading)| {
            *name == source && matches!(reading, Reading::Failed(_) | Reading::Silent { .. })
        });
        if failed {
            prop_assert!(matches!(decide(Some(&last), &round), Decision::Keep(_)));
        }
    }

    #[test]
    fn only_its_own_source_or_another_document_takes_one_down(
        round in any_round(),
        source in prop::sample::select(SourceName::ALL.to_vec()),
    ) {
        let last = last(source);
        let gone = round.iter().any(|(name, reading)| {
            *name == source && matches!(reading, Reading::Absent | Reading::Empty(_))
        });
        if let Decision::Fail(_) | Decision::Drop(_) = decide(Some(&last), &round) {
            prop_assert!(gone);
        }
    }

    #[test]
    fn when_all_have_none_none_is_in_force(
        empties in proptest::collection::vec(any::<bool>(), SourceName::ALL.len()),
        source in prop::option::of(prop::sample::select(SourceName::ALL.to_vec())),
    ) {
        let readings = empties.iter().map(|is| if *is { empty() } else { Reading::Absent });
        let round: Vec<_> = SourceName::ALL.into_iter().zip(readings).collect();
        let decision = decide(source.map(last).as_ref(), &round);
        prop_assert!(matches!(decision, Decision::Drop(_)));
    }

    #[test]
    fn without_one_in_force_the_first_found_is_taken(round in any_round()) {
        let found = round.iter().any(|(_, reading)| matches!(reading, Reading::Found(_)));
        prop_assert_eq!(matches!(decide(None, &round), Decision::Take(..)), found);
    }
}
