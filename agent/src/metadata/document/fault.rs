//! Why a text is not a document.

use std::fmt;

use thiserror::Error;

use crate::explain::Explain;

/// Why a text is not a document. Repeats nothing of it that could be secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentFault {
    /// It is not UTF-8 text.
    #[error("it is binary, or in another encoding than UTF-8")]
    NotText,
    /// The text is neither JSON nor YAML, or has more than one document.
    #[error("{place}{}{problem}", if place.is_empty() { "" } else { ": " })]
    Syntax {
        /// The path of the key whose value is the text, if it is nested: `vmagent`.
        place: &'static str,
        /// The mistake and its line.
        problem: String,
        /// The advice, where the mistake is known.
        advice: Option<String>,
    },
    /// A value in it is wrong.
    #[error("{path}{}{problem}", if path.is_empty() { "" } else { ": " })]
    Value {
        /// The path to it: `tunnel.proxies[0].port`; empty for the whole.
        path: String,
        /// What was found and what was expected.
        problem: String,
        /// What to do about it.
        advice: String,
    },
}

impl DocumentFault {
    pub(super) fn value(path: &str, problem: impl fmt::Display, advice: &str) -> Self {
        Self::Value {
            path: path.to_owned(),
            problem: problem.to_string(),
            advice: advice.to_owned(),
        }
    }

    pub(super) fn syntax(problem: &str, advice: Option<String>) -> Self {
        Self::Syntax {
            place: "",
            problem: format!("it is neither JSON nor YAML: {problem}"),
            advice,
        }
    }

    pub(super) fn second(line: usize) -> Self {
        Self::Syntax {
            place: "",
            problem: format!("a second document begins at line {line}, expected one document"),
            advice: Some(format!(
                "Take out line {line} and what follows it: a file holds one document, the first."
            )),
        }
    }

    /// The fault of an answer that services give as a JSON object.
    pub(in crate::metadata) fn no_object() -> Self {
        Self::syntax("found something that is not a JSON object", None)
    }
}

impl Explain for DocumentFault {
    fn code(&self) -> &'static str {
        match self {
            Self::NotText => "metadata-not-text",
            Self::Syntax { .. } | Self::Value { .. } => "document-invalid",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotText => "Deliver the document as plain UTF-8 text, not compressed; \
                              `iconv -f UTF-16 -t UTF-8` makes UTF-8 of UTF-16."
                .to_owned(),
            Self::Syntax { advice, .. } => advice.clone().unwrap_or_else(|| {
                "Correct the document at the place named; every JSON or YAML checker finds the same."
                    .to_owned()
            }),
            Self::Value { advice, .. } => advice.clone(),
        }
    }
}
