//! A real systemd as PID 1 in namespaces of its own: Debian 12's or 13's, on an overlay that
//! vanishes with it. No virtual machine, so it boots in a second or two; AF_VSOCK is denied, so
//! that nothing in it can touch the vsock device of the machine that runs the tests.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use tempfile::TempDir;

pub use crate::rootfs::Debian;
use crate::turn::{self, Turn};

/// How long systemd may take to reach its default target.
const BOOT: Duration = Duration::from_secs(120);

/// What the supervisor of a machine says when it has ended.
const ENDED: &[u8] = b"ENDED";

/// A machine that is not yet switched on.
#[derive(Debug)]
pub struct Plan {
    debian: Debian,
    shared: TempDir,
    script: String,
}

impl Plan {
    /// A fresh system of this release.
    pub fn new(debian: Debian) -> Self {
        let shared = tempfile::Builder::new()
            .prefix("vmagent-pid1-")
            .tempdir()
            .unwrap();
        Self {
            debian,
            shared,
            script: String::new(),
        }
    }

    /// The release that it was made for.
    pub fn debian(&self) -> Debian {
        self.debian
    }

    /// Puts a copy of `source` where the machine sees it, in [`Machine::SHARED`].
    pub fn share(self, source: &Path) -> Self {
        fs::copy(source, self.shared.path().join(source.file_name().unwrap())).unwrap();
        self
    }

    /// Writes a file into the image.
    pub fn file(mut self, path: &str, mode: u32, text: &str) -> Self {
        let name = format!("file-{}", self.script.len());
        fs::write(self.shared.path().join(&name), text).unwrap();
        self.script += &format!(
            "install -D -m {mode:o} {shared}/{name} '{path}'\n",
            shared = Machine::SHARED
        );
        self
    }

    /// Runs a shell script in the image before systemd starts, as an image builder would.
    pub fn script(mut self, script: &str) -> Self {
        self.script += script;
        self.script += "\n";
        self
    }

    /// Boots it, and returns when systemd says that it is up.
    pub fn boot(self) -> Machine {
        let turn = turn::take();
        let root = self.debian.rootfs();
        let shared = self.shared.path();
        fs::write(shared.join("prepare"), &self.script).unwrap();
        fs::write(shared.join("boot"), include_str!("pid1-boot.sh")).unwrap();
        let notify = UnixDatagram::bind(shared.join("notify")).unwrap();
        notify.set_read_timeout(Some(BOOT)).unwrap();
        let console = File::create(shared.join("console")).unwrap();

        // A test that is killed takes its machine along.
        let mut unshare = Command::new("setpriv");
        unshare.args("--pdeathsig KILL unshare --mount sh".split(' '));
        unshare.args([shared.join("boot").as_path(), &root, shared]);
        unshare.stdin(Stdio::null());
        unshare.stdout(console.try_clone().unwrap()).stderr(console);
        let notify_path = shared.join("notify");
        let (send, receive) = mpsc::channel();
        let supervisor = without_vsock(move || {
            let mut child = unshare.spawn().expect("unshare starts");
            send.send(child.id()).unwrap();
            let status = child.wait();
            let _ = UnixDatagram::unbound().and_then(|end| end.send_to(ENDED, notify_path));
            status
        });
        let outer = receive.recv().expect("the supervisor spawned it");
        let mut machine = Machine {
            shared: self.shared,
            outer: Pid::from_raw(outer.cast_signed()),
            pid: 0,
            supervisor: Some(supervisor),
            _turn: turn,
        };
        machine.await_boot(&notify);
        machine
    }
}

/// A running machine; dropping it is pulling the plug.
#[derive(Debug)]
pub struct Machine {
    shared: TempDir,
    /// unshare, the parent of the machine's first process.
    outer: Pid,
    /// The machine's first process, as it is known outside.
    pid: i32,
    supervisor: Option<JoinHandle<io::Result<std::process::ExitStatus>>>,
    _turn: Arc<Turn>,
}

impl Machine {
    /// Where the machine sees what was [`Plan::share`]d.
    pub const SHARED: &str = "/run/host";

    fn await_boot(&mut self, notify: &UnixDatagram) {
        let mut message = [0; 4096];
        loop {
            match notify.recv(&mut message) {
                Ok(length) if message[..length] == *ENDED => {
                    panic!("it ended before it was up:\n{}", self.console())
                }
                Ok(length) => {
                    let text = String::from_utf8_lossy(&message[..length]);
                    if text.lines().any(|line| line == "READY=1") {
                        break;
                    }
                }
                Err(error) => panic!("it did not boot: {error}\n{}", self.console()),
            }
        }
        let children = format!("/proc/{0}/task/{0}/children", self.outer);
        let children = fs::read_to_string(children).expect("CONFIG_PROC_CHILDREN");
        self.pid = children.trim().parse().expect("one child");
    }

    /// What systemd and the preparing script printed.
    pub fn console(&self) -> String {
        fs::read_to_string(self.shared.path().join("console")).unwrap_or_default()
    }

    /// A file of the machine as it is seen from outside. Absolute links in it lead outside, too.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(path.strip_prefix("/").unwrap())
    }

    /// The bench as the machine sees it in [`Machine::SHARED`].
    pub fn shared(&self) -> &Path {
        self.shared.path()
    }

    /// Runs a shell script in it as root, for at most two minutes.
    pub fn run(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid)).args(
            "--mount --uts --ipc --net --pid --cgroup -- env -i DEBIAN_FRONTEND=noninteractive \
             LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin timeout -k5 120 sh -c"
                .split_ascii_whitespace(),
        );
        command.arg(script).stdin(Stdio::null());
        without_vsock(move || command.output())
            .join()
            .unwrap()
            .expect("nsenter runs")
    }

    /// Runs a script that has to succeed, and returns what it printed.
    pub fn check(&self, script: &str) -> String {
        let output = self.run(script);
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            panic!(
                "{script}: {}\n{text}{errors}\n{}",
                output.status,
                self.journal()
            );
        }
        text.trim_end().to_owned()
    }

    /// One property of a unit.
    pub fn property(&self, unit: &str, name: impl AsRef<OsStr>) -> String {
        let name = name.as_ref().to_str().unwrap();
        self.check(&format!(
            "systemctl show --value --property={name} '{unit}'"
        ))
    }

    /// The journal of this boot.
    pub fn journal(&self) -> String {
        let output = self.run("journalctl --no-pager --no-hostname --output=short-monotonic");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The file that names the machine's network.
    pub fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }

    /// Starts a thread in the machine's network, where it meets its abstract sockets.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let network = File::open(self.network()).unwrap();
        thread::spawn(move || {
            setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // All of a namespace's processes end with its first, and its mounts with them. `unshare`
        // waits for that; it takes the first with it (`--kill-child`) where we don't know it yet.
        if let Some(supervisor) = self.supervisor.take() {
            if !supervisor.is_finished() {
                let first = if self.pid == 0 {
                    self.outer
                } else {
                    Pid::from_raw(self.pid)
                };
                let _ = kill(first, Signal::SIGKILL);
            }
            let _ = supervisor.join();
        }
        let _ = Command::new("unshare")
            .args(["--mount", "sh", "-c", REMOVE_CGROUP])
            .args([
                self.shared.path(),
                self.shared.path().file_name().unwrap().as_ref(),
            ])
            .status();
    }
}

/// Removes the empty cgroups that the machine left; `$0` is a place to mount, `$1` the name.
const REMOVE_CGROUP: &str = r#"
mount -t cgroup2 cgroup2 "$0" && cd "$0/$1" && find . -mindepth 1 -depth -type d -exec rmdir {} + && rmdir "../$1"
"#;

/// Does `work` in a thread for which, and for whose children, AF_VSOCK does not exist.
pub fn without_vsock<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::spawn(move || {
        seccompiler::apply_filter(&no_vsock()).expect("seccomp works");
        work()
    })
}

fn no_vsock() -> BpfProgram {
    let family = u64::from(nix::libc::AF_VSOCK.cast_unsigned());
    let is_vsock =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family).unwrap();
    let rule = SeccompRule::new(vec![is_vsock]).unwrap();
    let refuse = SeccompAction::Errno(nix::libc::EAFNOSUPPORT.cast_unsigned());
    let rules = [(nix::libc::SYS_socket, vec![rule])].into();
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, here).unwrap();
    filter.try_into().unwrap()
}
