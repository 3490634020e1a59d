//! Starts the parts, joins them with channels, and ends them.
//!
//! | task | waits for | writes |
//! |---|---|---|
//! | sshd watch | its clock, suspicion | the sshd slice, [`crate::sshd::Sshd`] |
//! | bridge | connections, its clock | the bridge slice |
//! | metadata | its clock, files, nudges | the metadata slice, the document, facts |
//! | host keys | files, sshd | the host keys |
//! | identity | files, its clock | the host name, the account to log in to |
//! | use dns | sshd | `use_dns` of the sshd slice, the dialer |
//! | desire | document, facts, its clock | the NAT slice, the tunnel that is wanted |
//! | tunnel | what is wanted, its session, news | the tunnel slice |
//! | news | the kernel | news for the tunnel, nudges for the metadata |
//! | reporters | the status, their clocks | the reports |
//! | status server | clients | nothing |
//! | supervisor (this one) | signals, the watchdog's clock | `restart_pending` |

mod desire;
mod supervise;

use desire::Desire;
use supervise::{Signals, Supervisor};

use std::io;

use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bridge::{Bridge, Limits};
use crate::config::{ReportUrl, Settled};
use crate::host::{self, Inherited};
use crate::host_keys;
use crate::identity;
use crate::metadata::{self, Facts, InForce};
use crate::news::{self, Outlets, way::Targets};
use crate::origin::Origins;
use crate::pulse::Monitor;
use crate::relay::dial::Dialer;
use crate::report;
use crate::sshd;
use crate::status::{board::Board, server};
use crate::tunnel::{
    driver::{Driver, Wanted},
    timing::Timing,
};
use crate::use_dns;

/// How many nudges may wait; one more would say nothing new.
const NUDGES: usize = 4;

/// Runs the agent until SIGTERM or SIGINT. Threads that block in the kernel may be left when it
/// returns: the process is to end then.
///
/// # Errors
/// Only if there is no runtime or no signal handling to be had from the kernel: nothing works then.
pub fn run(settled: &Settled, inherited: Vec<Inherited>) -> io::Result<()> {
    // A local one: what many threads would need is then not in the binary.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let result = runtime.block_on(serve(settled, inherited));
    // Dropped, it would wait for its blocking threads.
    runtime.shutdown_background();
    result
}

async fn serve(settled: &Settled, mut inherited: Vec<Inherited>) -> io::Result<()> {
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let stop = CancellationToken::new();
    let signals = Signals::new()?;
    let config = &settled.config;
    let target = sshd::Target::new(config.sshd.clone());
    let board = Board::new(&target.address().to_string());
    board.config().update(|slice| *slice = settled.show());
    let dialer = Dialer::new(config.origins);
    if config.origins == Origins::One {
        warn!("[bridge] origins is \"one\": sshd's limits and penalties act on all users together");
    }
    let mut monitor = Monitor::default();
    let mut tasks = JoinSet::new();
    let kmsg = inherited
        .iter()
        .position(|given| given.name == news::kmsg::NAME)
        .map(|index| inherited.remove(index).fd);

    let (watcher, sshd) = sshd::watch(target, dialer.clone(), board.sshd());
    tasks.spawn(watcher.run(stop.clone()));
    let keys = host_keys::run(config.host_keys.clone(), sshd.clone(), board.host_keys());
    tasks.spawn(until(stop.clone(), keys));
    let names = identity::run(config.user.clone(), board.host_name(), board.login());
    tasks.spawn(until(stop.clone(), names));
    let directory = config.host_keys.clone();
    let names = use_dns::watch(directory, sshd.clone(), dialer.clone(), board.sshd());
    tasks.spawn(until(stop.clone(), names));

    let (restored, restores) = watch::channel(0);
    let (bridge_decided, bridge_ready) = oneshot::channel();
    let mut bridge = Bridge::new(
        config,
        inherited,
        Limits::new(config, host::descriptor_limit()),
        dialer.clone(),
        sshd.clone(),
        restores.clone(),
        board.bridge(),
    );
    let restart = CancellationToken::new();
    if supervise::is_restarted() {
        bridge = bridge.restarted_by(restart.clone());
    }
    // The bridge has a stop of its own, after all others': its connections stand still from then
    // until the next agent goes on with them.
    let stop_bridge = CancellationToken::new();
    let bridge = bridge.run(bridge_decided, monitor.pulse("bridge"), stop_bridge.clone());
    let bridge = tokio::spawn(bridge);

    let (status_decided, status_ready) = oneshot::channel();
    let socket = config.status_socket.clone();
    tasks.spawn(server::run(
        socket,
        board.subscribe(),
        status_decided,
        stop.clone(),
    ));

    let (reread, rereads) = mpsc::channel(NUDGES);
    let (document, documents) = watch::channel(InForce::default());
    for reporter in report::reporters(config, &board) {
        tasks.spawn(until(stop.clone(), reporter.run()));
    }
    if config.report_url == ReportUrl::Document {
        let reports = report::follow(documents.clone(), board.clone());
        tasks.spawn(until(stop.clone(), reports));
    }
    let (facts, known) = watch::channel(Facts::default());
    let wires = metadata::Wires {
        nudges: rereads,
        restores: restores.clone(),
        document,
        facts,
    };
    let inputs = metadata::run(config.clone(), board.metadata(), wires);
    tasks.spawn(until(stop.clone(), inputs));

    let (network, network_changes) = watch::channel(0);
    let (wanted_in, wanted) = watch::channel(Wanted::default());
    let desire = Desire {
        documents,
        facts: known,
        network: network_changes,
        when: config.when,
        nat: board.nat(),
        instance_id: board.instance_id(),
        certificate: board.certificate(),
        key: board.key(),
        reread: reread.clone(),
        status: board.subscribe(),
        wanted: wanted_in,
    };
    tasks.spawn(until(stop.clone(), desire.run()));

    let (nudge, news) = mpsc::channel(NUDGES);
    let targets = Targets::default();
    let driver = Driver {
        wanted,
        news,
        targets: targets.clone(),
        restores,
        rejected: reread.clone(),
        watch: sshd,
        dialer,
        slice: board.tunnel(),
        timing: Timing::default(),
        pulse: monitor.pulse("tunnel"),
    };
    tasks.spawn(driver.run(stop.clone()));

    let outlets = Outlets {
        tunnel: nudge.clone(),
        metadata: reread.clone(),
        network,
        restores: restored,
    };
    tasks.spawn(until(stop.clone(), news::run(kmsg, targets, outlets)));

    // Either end may be gone only if its task has ended; it has said why.
    let _ = bridge_ready.await;
    let _ = status_ready.await;
    let supervisor = Supervisor {
        signals,
        monitor,
        status: board.subscribe(),
        restart_pending: board.restart_pending(),
        reread,
        nudge,
        restart,
    };
    supervisor.run().await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    stop_bridge.cancel();
    // It panicked if this fails; there is nothing left to end then.
    let _ = bridge.await;
    info!("stopped");
    Ok(())
}

/// Runs a part that has nothing to give back: it is dropped when it is time to stop.
async fn until(stop: CancellationToken, part: impl Future<Output = ()>) {
    stop.run_until_cancelled(part).await;
}
