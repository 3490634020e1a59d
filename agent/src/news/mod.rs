//! News from outside.

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The network.
    Network,
    /// Woken.
    Woken,
    /// Somebody asks.
    Asked,
}
