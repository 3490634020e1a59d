//! The rescue path: from the host into the guest with no network between them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use harness::failure::Result;
use harness::guest::{Guest, VM, key};
use harness::limits::{PROGRAM, SOON};
use harness::netns::Namespace;

#[test]
fn the_host_logs_in_over_vsock_copies_big_files_and_forwards_its_ssh_agent() -> Result<()> {
    let namespace = Namespace::new()?;
    let guest = Guest::restore(&namespace)?;
    the_host_logs_in_and_the_guest_to_itself_where_that_is_allowed(&guest)?;
    big_files_arrive_whole_both_ways(&namespace, &guest)?;
    ssh_agent_is_forwarded(&namespace, &guest)
}

fn the_host_logs_in_and_the_guest_to_itself_where_that_is_allowed(guest: &Guest) -> Result<()> {
    assert_eq!(
        guest.ssh("id --user --name; hostname")?,
        "root\nlocalhost\n"
    );
    let status = guest.wait_status("ready bridge", SOON, |s| s["bridge"]["state"] == "ready")?;
    assert_eq!(status["bridge"]["cid"], 42);
    assert_eq!(status["bridge"]["listen"], "vsock:22");
    assert_ne!(status["bridge"]["accepted"], 0);
    assert_eq!(status["bridge"]["refused"], 0);

    let login = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new vsock/1 -- echo through the bridge";
    guest.run(
        "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
         cat ~/.ssh/id_ed25519.pub >>~/.ssh/authorized_keys",
    )?;
    assert!(
        guest.run(login).is_err(),
        "loopback got in though only the host is allowed"
    );
    guest.run("printf '[bridge]\\nallow_cids = [1, 2]\\n' >/etc/vmagent/config.toml; systemctl restart vmagent.service")?;
    assert_eq!(guest.run(login)?, "through the bridge\n");
    Ok(())
}

#[test]
fn a_neighbour_is_turned_away_and_counted() -> Result<()> {
    let namespace = Namespace::new()?;
    let (guest, neighbour) = Guest::restore_pair(&namespace)?;
    let before = guest.status()?["bridge"]["refused"].clone();
    assert_eq!(before, 0);
    neighbour.run("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")?;
    // Even with a key that sshd would take.
    let public = neighbour.run("cat ~/.ssh/id_ed25519.pub")?;
    guest.run(&format!(
        "echo '{}' >>~/.ssh/authorized_keys",
        public.trim()
    ))?;
    let login = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no vsock/42 -- true";
    let refusal = neighbour
        .run(login)
        .expect_err("the neighbour logged in")
        .to_string();
    assert!(
        !refusal.contains("Permission denied"),
        "sshd saw the neighbour: {refusal}"
    );
    let status = guest.status()?;
    assert_eq!(status["bridge"]["refused"], 1, "{status:#}");
    let journal = guest.run("journalctl --output=cat --unit=vmagent.service")?;
    assert!(
        journal.contains("43"),
        "the journal does not name the neighbour:\n{journal}"
    );
    // The host is not the worse for it.
    guest.ssh("true").map(drop)
}

fn big_files_arrive_whole_both_ways(namespace: &Namespace, guest: &Guest) -> Result<()> {
    // Many times what there is room for on the way; under emulation a cipher moves some MiB a
    // second.
    const SIZE: usize = 16 << 20;
    const LIMIT: Duration = Duration::from_secs(180);
    let file = guest.dir().join("file");
    // Not compressible, not periodic, and the same in every run.
    let mut state = 1_u64;
    let content: Vec<u8> = (0..SIZE / 8)
        .flat_map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state ^ state >> 33).to_le_bytes()
        })
        .collect();
    fs::write(&file, &content)?;
    let sum = |path: &str| guest.run(&format!("sha256sum <{path}"));

    let mut scp = guest.client.command("scp");
    scp.arg(&file).arg(format!("{VM}:/var/tmp/scp"));
    namespace.run(&scp, LIMIT)?;
    let mut back = guest.client.command("scp");
    back.arg(format!("{VM}:/var/tmp/scp"))
        .arg(guest.dir().join("back"));
    namespace.run(&back, LIMIT)?;
    assert!(
        fs::read(guest.dir().join("back"))? == content,
        "scp from the guest changed the file"
    );

    let batch = guest.dir().join("batch");
    fs::write(
        &batch,
        format!(
            "put {} /var/tmp/sftp\nget /var/tmp/sftp {0}.sftp\n",
            file.display()
        ),
    )?;
    let mut sftp = guest.client.command("sftp");
    sftp.arg("-b").arg(&batch).arg(VM);
    namespace.run(&sftp, LIMIT)?;
    assert!(
        fs::read(file.with_extension("sftp"))? == content,
        "sftp from the guest changed the file"
    );

    let expected = Command::new("sha256sum")
        .stdin(fs::File::open(&file)?)
        .output()?
        .stdout;
    let expected = String::from_utf8_lossy(&expected);
    assert_eq!(sum("/var/tmp/scp")?, expected);
    assert_eq!(sum("/var/tmp/sftp")?, expected);
    Ok(())
}

fn ssh_agent_is_forwarded(namespace: &Namespace, guest: &Guest) -> Result<()> {
    let socket = guest.dir().join("agent.sock");
    let mut agent = Command::new("ssh-agent");
    agent.arg("-D").arg("-a").arg(&socket);
    let _agent = namespace.spawn(guest.dir(), "ssh-agent", &agent)?;
    harness::wait::until("ssh-agent", PROGRAM, || socket.exists().then_some(()))?;
    let mut add = Command::new("ssh-add");
    add.arg(&key()?.path).env("SSH_AUTH_SOCK", &socket);
    namespace.run(&add, PROGRAM)?;

    let mut ssh = guest.client.command("ssh");
    ssh.env("SSH_AUTH_SOCK", &socket);
    ssh.args([
        "-A",
        "-o",
        "IdentityAgent=SSH_AUTH_SOCK",
        VM,
        "--",
        "ssh-add -L",
    ]);
    let keys = namespace.run(&ssh, SOON)?;
    assert_eq!(keys.split(' ').nth(1), key()?.public()?.split(' ').nth(1));
    Ok(())
}
