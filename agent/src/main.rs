//! The `vmagent` binary: the command line, and the exit status.

use std::process::ExitCode;

use clap::Parser;

use vmagent::cli::{CheckConfig, Cli, Command, Run};
use vmagent::config::Config;
use vmagent::metadata::{check, inputs};
use vmagent::{daemon, host, logging, status};

/// The configuration or a document is wrong (`EX_CONFIG`, sysexits.h).
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Status(args) => status::client::run(&args),
        Command::CheckConfig(args) => check_config(&args),
        Command::Inputs => report(inputs::serve(std::io::stdout().lock())),
    }
}

fn run(args: &Run) -> ExitCode {
    // First of all: nothing else may have opened a descriptor yet.
    let inherited = host::inherited();
    logging::init(args.log_level);
    let config = match Config::load(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    if let Err(error) = host::keep_secrets() {
        tracing::warn!(%error, "can't switch core dumps off");
    }
    host::raise_descriptor_limit();
    host::keep_heap();
    let inherited = inherited.unwrap_or_else(|error| {
        tracing::warn!(%error, "can't take over the sockets of the service manager");
        Vec::new()
    });
    report(daemon::run(&config, inherited))
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it answers on the terminal"
)]
fn check_config(args: &CheckConfig) -> ExitCode {
    let mut good = true;
    match Config::load(args.config.as_deref()) {
        Ok(_) => println!("the configuration is good"),
        Err(error) => {
            good = false;
            eprintln!("{error}");
        }
    }
    if let Some(path) = &args.document {
        match check::document(path) {
            Ok(summary) => println!("{summary}"),
            Err(error) => {
                good = false;
                eprintln!("{}: {error}", check::place(path));
            }
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EX_CONFIG)
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last word, also when there is no log yet"
)]
fn report(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmagent: {error}");
            ExitCode::FAILURE
        }
    }
}
