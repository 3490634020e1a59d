//! The `vmagent` binary: the command line, and the exit status.

use std::process::ExitCode;

use clap::Parser;

use vmagent::cli::{CheckConfig, Cli, Command, Run};
use vmagent::config::{Config, Settled};
use vmagent::explain::Explain;
use vmagent::metadata::{check, inputs};
use vmagent::{daemon, host, logging, print, sshd, status};

/// The configuration or a document is wrong (`EX_CONFIG`, sysexits.h).
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
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
    let settled = Settled::read(args.config.as_deref());
    if let Some(broken) = &settled.broken {
        tracing::warn!(code = broken.code(), "{broken}. {}", broken.advice());
    }
    if let Err(error) = host::keep_secrets() {
        tracing::warn!(%error, "can't switch core dumps off");
    }
    host::raise_descriptor_limit();
    host::keep_heap();
    let inherited = inherited.unwrap_or_else(|error| {
        tracing::warn!(%error, "can't take over the sockets of the service manager");
        Vec::new()
    });
    report(daemon::run(&settled, inherited))
}

/// Prints the help or the version on the standard output, and wrong usage on the standard error.
fn usage(error: &clap::Error) -> ExitCode {
    let exit = u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    if error.use_stderr() {
        // If this write fails, the exit status is the only report.
        let _ = error.print();
        return exit;
    }
    print::answer(&error.render().to_string(), exit)
}

fn check_config(args: &CheckConfig) -> ExitCode {
    let mut good = String::new();
    let mut exit = ExitCode::SUCCESS;
    match Config::load(args.config.as_deref()) {
        Ok(config) => {
            good += "the configuration is good\n";
            good += &format!("{}\n", sshd::expected(config.sshd.as_ref()));
        }
        Err(error) => {
            exit = ExitCode::from(EX_CONFIG);
            print::complain(error);
        }
    }
    if let Some(path) = &args.document {
        match check::document(path) {
            Ok(summary) => good += &format!("{summary}\n"),
            Err(error) => {
                exit = ExitCode::from(EX_CONFIG);
                print::complain(format_args!("{}: {error}", check::place(path)));
            }
        }
    }
    print::answer(&good, exit)
}

fn report(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::complain(format_args!("vmagent: {error}"));
            ExitCode::FAILURE
        }
    }
}
