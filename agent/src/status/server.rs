//! Hands out the status on a Unix socket: one JSON line at once, and one for each change.
//!
//! A client that reads slowly skips to the newest, so it costs one line of memory. Anybody on
//! this machine may ask.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::model::Status;
use crate::unix::{self, Access, BindError, SocketFile};

/// Clients that may stay and watch. One more gets its line and has to go.
const WATCHERS: usize = 64;
/// Between two attempts to bind, and after an accept that failed.
const RETRY: Duration = Duration::from_secs(2);
/// How long a client may take for one line.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves `status` at `path` until it is told to stop.
///
/// `decided` is told once the first attempt to bind has come out. One that fails is repeated: the
/// ways in are worth more than the talk about them.
pub async fn run(
    path: PathBuf,
    status: watch::Receiver<Status>,
    decided: oneshot::Sender<()>,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(serve(&path, status, decided))
        .await;
}

async fn serve(path: &Path, status: watch::Receiver<Status>, decided: oneshot::Sender<()>) {
    let mut decided = Some(decided);
    let mut complained = false;
    let (listener, _file) = loop {
        let result = bind(path);
        if let Some(decided) = decided.take() {
            let _ = decided.send(());
        }
        match result {
            Ok(bound) => break bound,
            Err(error) if complained => debug!(%error, "still no status socket"),
            Err(error) => {
                warn!(path = %path.display(), %error, "no status socket; trying again");
                complained = true;
            }
        }
        sleep(RETRY).await;
    };
    info!(path = %path.display(), "the status is served");
    let places = Arc::new(Semaphore::new(WATCHERS));
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let places = Arc::clone(&places);
                    clients.spawn(client(stream, status.clone(), places));
                }
                Err(error) => {
                    debug!(%error, "can't accept a client of the status");
                    sleep(RETRY).await;
                }
            },
        }
    }
}

fn bind(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        // The service manager makes it as a rule; where it does not, anybody may look inside.
        std::fs::DirBuilder::new().mode(0o755).create(parent)?;
    }
    let (socket, file) = unix::bind(path, Access::Everybody)?;
    let socket = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
    Ok((UnixListener::from_std(socket)?, file))
}

async fn client(
    mut stream: UnixStream,
    mut status: watch::Receiver<Status>,
    places: Arc<Semaphore>,
) {
    let place = places.try_acquire();
    while tell(&mut stream, &mut status).await.is_ok() {
        if place.is_err() {
            return;
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = hung_up(&mut stream) => return,
        }
    }
}

async fn tell(stream: &mut UnixStream, status: &mut watch::Receiver<Status>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&*status.borrow_and_update())?;
    line.push(b'\n');
    timeout(PATIENCE, stream.write_all(&line)).await?
}

/// Waits until the client has no more to say; what it says is not listened to.
async fn hung_up(stream: &mut UnixStream) {
    let mut buffer = [0; 64];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}
