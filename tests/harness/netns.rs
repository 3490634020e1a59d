//! A network of a test's own.
//!
//! Guests, proxies and metadata services live in a network namespace with
//! nothing but a loopback device, which also carries 169.254.169.254. So no
//! test can send a packet to the machine's own network or its own metadata
//! service, and no two tests fight for a port.
//!
//! The namespace *is* a thread: it entered a fresh one, and whatever is
//! started from it lives there. Its children ask the kernel to kill them when
//! that thread ends, so nothing outlives a test, whether it returns, panics
//! or is killed.

use std::any::Any;
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Socket, Type};

use crate::early;
use crate::failure::{Context, Result};
use crate::limits::PROGRAM;
use crate::process::{self, Process};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, and everything that was started in it.
pub struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Makes a namespace with its loopback up.
    ///
    /// # Errors
    ///
    /// Without root, or where the kernel has no network namespaces.
    pub fn new() -> Result<Arc<Self>> {
        early::panics();
        Self::entered_by(enter_fresh).during("making a network namespace (as root?)")
    }

    /// Joins the network that a file names, such as a machine's. What is started from here ends
    /// with this, and not with that.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn join(network: &Path) -> Result<Arc<Self>> {
        let file = File::open(network).during(network.display())?;
        Self::entered_by(move || Ok(setns(file, CloneFlags::CLONE_NEWNET)?))
    }

    fn entered_by(enter: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Arc<Self>> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, entered) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("namespace".into())
            .spawn(move || {
                let outcome = enter();
                let good = outcome.is_ok();
                let _ = ready.send(outcome);
                if good {
                    queue.iter().for_each(|job| job());
                }
            })?;
        entered.recv()??;
        Ok(Arc::new(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        }))
    }

    /// Runs a closure in the namespace and returns what it returns. Sockets
    /// that it makes belong to the namespace for ever. It holds up others, so
    /// it should be short.
    pub fn enter<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel::<std::result::Result<T, Box<dyn Any + Send>>>();
        let job: Job = Box::new(move || {
            let _ = answer.send(panic::catch_unwind(AssertUnwindSafe(f)));
        });
        self.jobs
            .as_ref()
            .and_then(|jobs| jobs.send(job).ok())
            .expect("the namespace's thread runs");
        match result.recv().expect("the namespace's thread answers") {
            Ok(value) => value,
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// The file that names this namespace, for nsenter(1).
    pub fn path(&self) -> PathBuf {
        self.enter(|| {
            PathBuf::from(format!(
                "/proc/{}/task/{}/ns/net",
                std::process::id(),
                nix::unistd::gettid()
            ))
        })
    }

    /// Lays a cable to another namespace: here is 10.99.`net`.1, there is 10.99.`net`.2.
    ///
    /// # Errors
    ///
    /// What ip says.
    pub fn connect_to(&self, other: &Self, net: u8) -> Result<()> {
        let far = other.path().display().to_string();
        let add = format!("link add far{net} type veth peer name near{net} netns {far}");
        let ends = [(self, "far", 1), (other, "near", 2)];
        let mut steps = vec![(self, add)];
        for (namespace, name, last) in ends {
            let device = format!("dev {name}{net}");
            steps.push((
                namespace,
                format!("address add 10.99.{net}.{last}/24 {device}"),
            ));
            steps.push((namespace, format!("link set {device} up")));
        }
        for (namespace, arguments) in steps {
            let mut command = Command::new("ip");
            command.args(arguments.split(' '));
            namespace.run(&command, PROGRAM)?;
        }
        Ok(())
    }

    /// Listens on a TCP address in the namespace.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::bind`].
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        self.enter(move || TcpListener::bind(address))
            .during(format!("listening on {address}"))
    }

    /// Connects to a TCP address in the namespace.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::connect_timeout`], after [`PROGRAM`] at the latest.
    pub fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        self.enter(move || TcpStream::connect_timeout(&address, PROGRAM))
            .during(format!("connecting to {address}"))
    }

    /// Connects to a TCP address in the namespace, from another one of its own.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::connect_timeout`], after 10 s at the latest.
    pub fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
        let connect = move || -> std::io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), Duration::from_secs(10))?;
            Ok(socket.into())
        };
        self.enter(connect)
            .during(format!("connecting from {from} to {to}"))
    }

    /// Starts a program that runs until the namespace or the returned guard is
    /// dropped. What it prints goes to `NAME.log` in `dir`.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn spawn(&self, dir: &Path, name: &str, command: &Command) -> Result<Process> {
        self.spawn_with(dir, name, command, Stdio::null())
    }

    /// As [`Namespace::spawn`], with a standard input.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn spawn_with(
        &self,
        dir: &Path,
        name: &str,
        command: &Command,
        stdin: impl Into<Stdio>,
    ) -> Result<Process> {
        let path = dir.join(format!("{name}.log"));
        let log = File::create(&path)?;
        let mut command = mortal(command);
        command.stdin(stdin).stdout(log.try_clone()?).stderr(log);
        let child = self
            .enter(move || command.spawn())
            .during(format!("starting {name}"))?;
        Ok(Process::new(name, child, path))
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    ///
    /// If it can't be started. That it failed, or was killed at the `limit`
    /// (exit status 137), is the caller's to judge.
    pub fn output(&self, command: &Command, input: &[u8], limit: Duration) -> Result<Output> {
        let mut wrapped = Command::new("timeout");
        wrapped.args(["--signal=KILL", &format!("{}", limit.as_secs_f64())]);
        inherit(&mut wrapped, command);
        let mut wrapped = mortal(&wrapped);
        wrapped
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .enter(move || wrapped.spawn())
            .during(format!("starting {command:?}"))?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                // A program need not read its input.
                stdin.map(|mut stdin| stdin.write_all(input))
            });
            child.wait_with_output()
        })?;
        Ok(output)
    }

    /// Runs a program that must succeed and returns what it printed.
    ///
    /// # Errors
    ///
    /// If it fails: with its exit status and all that it said.
    pub fn run(&self, command: &Command, limit: Duration) -> Result<String> {
        process::succeeded(command, &self.output(command, b"", limit)?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn enter_fresh() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for arguments in ["link set lo up", "address add 169.254.169.254/32 dev lo"] {
        let mut command = Command::new("ip");
        command.args(arguments.split(' '));
        process::run(&mut command)?;
    }
    Ok(())
}

/// The same command, which the kernel kills when the thread that started it
/// ends.
pub(crate) fn mortal(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]);
    inherit(&mut wrapped, command);
    wrapped
}

fn inherit(wrapped: &mut Command, command: &Command) {
    wrapped.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
}
