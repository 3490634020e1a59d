//! Brings a session with another proxy up beside the one that carries the tunnel, so that the
//! way back to the first proxy costs nobody a connection.

use tokio::time::timeout;

use super::fault::Fault;
use super::live::{Live, open};
use super::machine::{Probe, Proof};
use super::plan::{Ask, Plan, Told};
use crate::status::model;

/// A session that could carry the tunnel.
pub(super) struct Candidate {
    pub(super) live: Live,
    pub(super) port: u16,
    pub(super) proof: Proof,
    pub(super) forwards: Vec<model::Forward>,
    /// Users have connections open on it already.
    pub(super) in_use: bool,
}

/// Opens a session, asks for the forward and probes it, once each.
pub(super) async fn run(plan: Plan) -> Result<Candidate, Fault> {
    let after = plan.timing.attempt;
    let mut live = open(plan);
    match timeout(after, settle(&mut live)).await {
        Ok(Ok(settled)) => Ok(Candidate {
            live,
            port: settled.port,
            proof: settled.proof,
            forwards: settled.forwards,
            in_use: settled.in_use,
        }),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::AttemptTimeout { after }),
    }
}

/// A session that came up.
struct Settled {
    port: u16,
    proof: Proof,
    forwards: Vec<model::Forward>,
    in_use: bool,
}

async fn settle(live: &mut Live) -> Result<Settled, Fault> {
    let (mut port, mut forwards, mut in_use) = (0, Vec::new(), false);
    loop {
        match live.told.recv().await {
            Some(Told::Granted(granted)) => {
                port = granted;
                live.ask(Ask::Probe);
            }
            Some(Told::Refused { fault, .. } | Told::Probed(Probe::Failed(fault))) => {
                return Err(fault);
            }
            Some(Told::Probed(probe)) => {
                return Ok(Settled {
                    port,
                    proof: probe.proof(),
                    forwards,
                    in_use,
                });
            }
            Some(Told::Forwards(list)) => forwards = list,
            Some(Told::InUse(now)) => in_use = now,
            Some(Told::RoundTrip(_)) => {}
            None => return Err(live.end().await),
        }
    }
}
