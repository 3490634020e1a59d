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
}

/// Opens a session, asks for the forward and probes it, once each.
pub(super) async fn run(plan: Plan) -> Result<Candidate, Fault> {
    let after = plan.timing.attempt;
    let mut live = open(plan);
    match timeout(after, settle(&mut live)).await {
        Ok(Ok((port, proof, forwards))) => Ok(Candidate {
            live,
            port,
            proof,
            forwards,
        }),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::AttemptTimeout { after }),
    }
}

async fn settle(live: &mut Live) -> Result<(u16, Proof, Vec<model::Forward>), Fault> {
    let mut granted = 0;
    let mut forwards = Vec::new();
    loop {
        match live.told.recv().await {
            Some(Told::Granted(port)) => {
                granted = port;
                live.ask(Ask::Probe);
            }
            Some(Told::Refused { fault, .. }) => return Err(fault),
            Some(Told::Probed(Probe::Failed(fault))) => return Err(fault),
            Some(Told::Probed(probe)) => return Ok((granted, probe.proof(), forwards)),
            Some(Told::Forwards(list)) => forwards = list,
            Some(Told::RoundTrip(_) | Told::InUse(_)) => {}
            None => return Err(live.end().await),
        }
    }
}
