//! Why a text is not a document.

use std::fmt;

use thiserror::Error;

use crate::explain::Explain;

/// Why a text is not a document. Repeats nothing of it that could be secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentFault {
    /// It is not UTF-8 text.
    #[error("it is binary, not text")]
    NotText,
    /// It is neither JSON nor YAML.
    #[error("it is neither JSON nor YAML: {0}")]
    Syntax(String),
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

    /// The fault of an answer that services give as a JSON object.
    pub(in crate::metadata) fn no_object() -> Self {
        Self::Syntax("found something that is not a JSON object".to_owned())
    }
}

impl Explain for DocumentFault {
    fn code(&self) -> &'static str {
        match self {
            Self::NotText => "metadata-not-text",
            Self::Syntax(_) | Self::Value { .. } => "document-invalid",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotText => "Deliver the document as plain UTF-8 text, not compressed.".to_owned(),
            Self::Syntax(_) => "Correct the document at the place named; every JSON or YAML \
                                checker finds the same."
                .to_owned(),
            Self::Value { advice, .. } => advice.clone(),
        }
    }
}
