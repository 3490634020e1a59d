//! What an error owes its reader: a code for machines, a sentence for people, and what to do.

/// An error that can stand in the status.
///
/// Its `Display` is the sentence: what was tried, on what, and what came back.
pub trait Explain: std::error::Error {
    /// A stable kebab-case code; others match on it, so it is never renamed.
    fn code(&self) -> &'static str;

    /// What a person can do about it, as a sentence.
    fn advice(&self) -> String;
}
