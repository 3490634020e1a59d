//! `make demo`: a guest behind NAT that can be reached both ways.
//!
//! Boots the image in QEMU, in a network of its own with a real OpenSSH proxy
//! and a metadata service beside it, and logs in by each way. With `KEEP=1` it
//! stays, and says how to enter by hand. `demo --check` fails if this machine or
//! its programs lack something else than the image.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Instant;

use harness::boot::Boot;
use harness::failure::{Failure, Result};
use harness::guest::{BOOT, Guest, VM, key};
use harness::image::Image;
use harness::limits::SOON;
use harness::metadata::Metadata;
use harness::netns::Namespace;
use harness::world::{LOOPBACK, PUBLIC, World};
use harness::{paths, qemu};

fn main() -> ExitCode {
    let outcome = match env::args().nth(1).as_deref() {
        None => demo(),
        Some("--check") => check(),
        Some(other) => Err(Failure::new(format!("{other}: the only option is --check"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\ndemo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the demo does before it needs the image and the guests' vsock device, which take
/// minutes to build: `make` runs this while they are being built.
fn check() -> Result<()> {
    paths::helper("vsock-connect")?;
    qemu::version()?;
    let world = World::new(&[PUBLIC, LOOPBACK])?;
    Metadata::start(&world.namespace).map(drop)
}

fn demo() -> Result<()> {
    let start = Instant::now();
    let step = |text: &str| println!("\n{:5.1} s  {text}", start.elapsed().as_secs_f64());

    step("a proxy (this machine's sshd) and a metadata service, in a network of their own");
    let world = World::new(&[PUBLIC, LOOPBACK])?;
    let metadata = Metadata::start(&world.namespace)?;
    metadata.openstack("i-demo", &format!("{{\"vmagent\": {}}}", both(&world)?));

    step("booting a fresh copy of the image behind NAT (half a minute where QEMU has to emulate)");
    let guest = Boot::new(Image::of("trixie")?)?.launch(&world.namespace)?;
    world.add_ways(&guest, &key()?)?;
    guest.wait_banner(BOOT)?;
    step("sshd answers over vsock");
    guest.wait_tunnel(SOON)?;
    step("the tunnel is up");

    for (title, way) in [
        ("from the host, with no network: vsock", VM),
        (
            "from anywhere: the port that the proxy keeps for this guest",
            "tunnel",
        ),
        (
            "by way of the proxy, to a port that only its users reach",
            "jump",
        ),
    ] {
        step(title);
        show(
            &guest,
            way,
            "echo \"Hello from $(hostname), from ${SSH_CONNECTION%% *}\"",
        )?;
    }
    step("asked from inside");
    show(&guest, VM, "vmagent status")?;
    step("done");

    if env::var_os("KEEP").is_some_and(|keep| keep != "0") {
        keep(&guest, &world.namespace)?;
    }
    Ok(())
}

/// Runs a command in the guest by one of the ways, and shows both.
fn show(guest: &Guest, way: &str, script: &str) -> Result<()> {
    println!("         $ ssh {way} -- {script}");
    for line in guest.client.run(guest.namespace(), way, script)?.lines() {
        println!("           {line}");
    }
    Ok(())
}

/// Says how to enter by hand, and stays until the Enter key.
fn keep(guest: &Guest, namespace: &Namespace) -> Result<()> {
    let config = guest.client.config.display();
    println!(
        "\nThe guest runs until you press Enter here. Its network is not yours; enter it from another terminal:\n"
    );
    let inside = format!("nsenter --net={}", namespace.path().display());
    println!("    ssh -F {config} {VM}               over vsock, from anywhere on this machine");
    println!("    {inside} ssh -F {config} tunnel    through the proxy's port");
    println!("    {inside} ssh -F {config} jump      by way of the proxy");
    println!("\nIts console: {}/serial.log\n", guest.dir().display());
    if io::stdin().is_terminal() {
        io::stdin().read_line(&mut String::new())?;
    } else {
        println!("(no terminal: until this program is ended)");
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

/// The document with the public forward, and the loopback one beside it.
fn both(world: &World) -> Result<String> {
    let mut document = world.json(PUBLIC)?;
    document["tunnel"]["forwards"] = serde_json::json!([{
        "bind": LOOPBACK.bind,
        "port": LOOPBACK.port,
        "to": "127.0.0.1:22",
    }]);
    Ok(document.to_string())
}
