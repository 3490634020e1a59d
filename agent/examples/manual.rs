//! Writes the manual page and the shell completions into a directory, from the argument parser:
//! `cargo run -p vmagent --example manual -- OUTDIR`

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;

const SECTION: &str = "8";

/// What the argument parser does not know, in roff(7).
const REST: &str = r#".SH EXIT STATUS
.TP
\fB0\fR
Told to stop; or, of \fBstatus\fR, all is well; of \fBcheck\-config\fR, all is good.
.TP
\fB1\fR
Of \fBstatus\fR: degraded or starting.
.TP
\fB2\fR
Wrong usage.
.TP
\fB3\fR
Of \fBstatus\fR: no agent is running.
.TP
\fB4\fR
Of \fBstatus\fR: this user may not ask it.
.TP
\fB78\fR
Of \fBcheck\-config\fR: the configuration or the document is wrong; the message names the file, the key and what is
accepted there.
.SH FILES
.TP
\fI/etc/vmagent/config.toml\fR
The configuration. Every key is optional, and so is the file.
.TP
\fI/etc/vmagent/tunnel.yaml\fR
A tunnel document, where no metadata service has one. It holds a private key: mode 0600.
.TP
\fI/run/vmagent/status.sock\fR
Where the agent says how it is: one line of JSON at once, and one for each change.
.TP
\fI/run/vmagent/document\fR, \fI/var/lib/vmagent/document\fR
The last good document, for the next agent; on disk only if \fBcache = "state"\fR in
\fB[metadata]\fR asks for it. It holds a private key: mode 0600.
.TP
\fI/etc/ssh/ssh_host_*_key.pub\fR
The public host keys, which \fBvmagent status \-\-known\-hosts\fR prints and reports tell.
.TP
\fI/run/cloud\-init/combined\-cloud\-config.json\fR, \fI/var/lib/cloud/instance/\fR
Where the \fBvmagent:\fR key of the cloud\-config is read.
.SH ENVIRONMENT
.TP
\fBLISTEN_PID\fR, \fBLISTEN_FDS\fR, \fBLISTEN_FDNAMES\fR
A listening vsock or Unix stream socket to take over, see \fBsd_listen_fds\fR(3).
.TP
\fBNOTIFY_SOCKET\fR, \fBWATCHDOG_USEC\fR
Where and how often to tell the service manager that all is well, see \fBsd_notify\fR(3).
.TP
\fBRUNTIME_DIRECTORY\fR, \fBSTATE_DIRECTORY\fR
Where the last good configuration and document may be kept, see \fBsystemd.exec\fR(5).
.TP
\fBCREDENTIALS_DIRECTORY\fR
Where a tunnel document may lie as \fBvmagent.tunnel\fR, see \fBsystemd.exec\fR(5).
.TP
\fBJOURNAL_STREAM\fR
Set by systemd where the log goes to the journal: it then has priorities and no time.
.TP
\fBNO_COLOR\fR
Keeps colour off the terminal.
.SH EXAMPLES
Log in from the host, whatever the state of the guest's network:
.PP
.RS 4
.nf
ssh root@vsock/42            # systemd\-ssh\-proxy(1), with the CID of the VM
ssh root@qemu:system/myvm    # libvirt\-ssh\-proxy, with its name
.fi
.RE
.PP
Log in from anywhere, through the proxy:
.PP
.RS 4
.nf
ssh \-p 12345 root@proxy.example.org
.fi
.RE
.PP
Know it by its host keys from then on:
.PP
.RS 4
.nf
vmagent status \-\-known\-hosts   # in the VM; append to known_hosts where you log in
.fi
.RE
.SH SEE ALSO
\fBssh\fR(1), \fBsshd\fR(8), \fBsystemd\-ssh\-proxy\fR(1), \fBsystemd.socket\fR(5), \fBvsock\fR(7),
\fBcloud\-init\fR(1)
"#;

fn main() -> io::Result<()> {
    let Some(out) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: manual OUTDIR"));
    };
    std::fs::create_dir_all(&out)?;
    std::fs::write(out.join(format!("vmagent.{SECTION}")), page()?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command(), "vmagent", &out)?;
    }
    same_names(&out)
}

/// The parser without what is not for people.
fn command() -> Command {
    let full = vmagent::cli::command();
    let mut command = Command::new("vmagent")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(full.get_subcommands().filter(|c| !c.is_hide_set()).cloned());
    if let Some(about) = full.get_about() {
        command = command.about(about.clone());
    }
    if let Some(about) = full.get_long_about() {
        command = command.long_about(about.clone());
    }
    command
}

fn page() -> io::Result<Vec<u8>> {
    let command = command();
    // Without a date: two builds of one source are the same.
    let man = Man::new(command.clone())
        .title("VMAGENT")
        .section(SECTION)
        .source(format!("vmagent {}", env!("CARGO_PKG_VERSION")))
        .manual("System Manager's Manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut text = String::from(".SH SYNOPSIS\n");
    for subcommand in command.get_subcommands() {
        text += &format!("{}\n.br\n", usage(subcommand));
    }
    text += "\\fBvmagent\\fR \\-\\-help | \\-\\-version\n";
    page.extend(text.into_bytes());
    man.render_description_section(&mut page)?;
    let mut text = String::from(".SH COMMANDS\n");
    for subcommand in command.get_subcommands() {
        describe(&mut text, subcommand);
    }
    page.extend(text.into_bytes());
    page.extend_from_slice(REST.as_bytes());
    Ok(page)
}

fn usage(command: &Command) -> String {
    let mut text = format!("\\fBvmagent {}\\fR", escape(command.get_name()));
    for option in options(command) {
        text += &format!(" [{}]", name(option));
    }
    text
}

fn describe(text: &mut String, command: &Command) {
    *text += &format!(".SS {}\n", usage(command));
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    for paragraph in about.split("\n\n") {
        // The first one has lost its full stop to `--help`.
        let sentence = paragraph.trim().trim_end_matches('.');
        *text += &format!(".PP\n{}.\n", escape(sentence));
    }
    for option in options(command) {
        let help = option.get_long_help().or(option.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        *text += &format!(".TP\n{}\n{}", name(option), escape(&help));
        let values = option.get_possible_values();
        if !values.is_empty() && option.get_action().takes_values() {
            let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
            let _ = write!(text, ": {}", escape(&names.join(", ")));
            if let [default] = option.get_default_values() {
                let _ = write!(text, " [default: {}]", escape(&default.to_string_lossy()));
            }
        }
        text.push('\n');
    }
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help";
    command.get_arguments().filter(shown)
}

fn name(option: &Arg) -> String {
    let mut text = format!(
        "\\fB\\-\\-{}\\fR",
        escape(option.get_long().unwrap_or_default())
    );
    if option.get_action().takes_values() {
        for value in option.get_value_names().unwrap_or_default() {
            text += &format!(" \\fI{}\\fR", escape(value));
        }
    }
    text
}

/// Text as roff(7) wants it: backslashes and hyphens that stay what they are, and no line that
/// begins like a request.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.as_bytes().first() {
        Some(b'.' | b'\'') => format!("\\&{text}"),
        _ => text,
    }
}

/// Fails where the generators call their files differently from what packages expect.
fn same_names(out: &Path) -> io::Result<()> {
    for name in ["vmagent.8", "vmagent.bash", "_vmagent", "vmagent.fish"] {
        if !out.join(name).is_file() {
            return Err(io::Error::other(format!("{name} was not written")));
        }
    }
    Ok(())
}
