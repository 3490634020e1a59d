//! Waiting for a moment that may not come.

use std::time::Instant;

use tokio::time::sleep_until;

/// Waits for a moment; for ever if there is none.
pub async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
