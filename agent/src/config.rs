//! `/etc/vmagent/config.toml`: every key is optional, an unknown one is an error.

mod source;
mod url;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::metadata::document::When;

pub use source::SourceName;
pub use url::HttpUrl;

/// Where the configuration is read from unless the command line names another file.
pub const DEFAULT_PATH: &str = "/etc/vmagent/config.toml";

/// The most that `[bridge] max_connections` may be: with two descriptors for each, this is half of
/// what the unit gives the agent.
const MAX_CONNECTIONS: u16 = 16_000;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[bridge] listen`.
    pub listen: Listen,
    /// `[bridge] allow_cids`.
    pub allow_cids: Vec<u32>,
    /// `[bridge] sshd`.
    pub sshd: SocketAddr,
    /// `[bridge] host_keys`: the directory with that sshd's public host keys.
    pub host_keys: PathBuf,
    /// `[bridge] max_connections`.
    pub max_connections: u16,
    /// `[bridge] max_connections_per_origin`; none leaves it to the number of allowed origins.
    pub max_connections_per_origin: Option<u16>,
    /// `[bridge] max_rate`, in connections a second.
    pub max_rate: u32,
    /// `[metadata] sources`, in order; none leaves it to the platform that this is.
    pub sources: Option<Vec<SourceName>>,
    /// `[metadata] url`: the base of the services that a cloud has.
    pub url: HttpUrl,
    /// `[metadata] document_url`: of the source `url`.
    pub document_url: Option<HttpUrl>,
    /// `[metadata] file`.
    pub file: PathBuf,
    /// `[metadata] cache`.
    pub cache: Cache,
    /// `[tunnel] when`; none leaves it to the document.
    pub when: Option<When>,
    /// `[report] url`: who is told how this guest is to be reached.
    pub report_url: Option<HttpUrl>,
    /// `[report] guest_attributes`.
    pub guest_attributes: GuestAttributes,
    /// `[status] socket`.
    pub status_socket: PathBuf,
}

/// What the bridge listens on, unless it inherits a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A vsock port on every context ID of this guest.
    Vsock(u32),
    /// A Unix socket, for a VMM without vsock.
    Unix(PathBuf),
    /// Nothing.
    Off,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(port) => write!(f, "vsock:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Off => f.write_str("off"),
        }
    }
}

/// Whether the host keys are published as guest attributes of Google Compute Engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestAttributes {
    /// Where the firmware says that this is one.
    Auto,
    /// Whatever it says.
    Always,
    /// Not at all.
    Never,
}

/// Where the last good document is kept for the next agent of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// In the runtime directory, which is in memory.
    Runtime,
    /// In the state directory, which survives a reboot.
    State,
    /// Nowhere.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen::Vsock(22),
            allow_cids: vec![2],
            sshd: SocketAddr::from(([127, 0, 0, 1], 22)),
            host_keys: PathBuf::from("/etc/ssh"),
            max_connections: 1024,
            max_connections_per_origin: None,
            // A login costs a processor of the guest more than 20 ms.
            max_rate: 100,
            sources: None,
            url: HttpUrl::default(),
            document_url: None,
            file: PathBuf::from("/etc/vmagent/tunnel.yaml"),
            cache: Cache::Runtime,
            when: None,
            report_url: None,
            guest_attributes: GuestAttributes::Auto,
            status_socket: PathBuf::from("/run/vmagent/status.sock"),
        }
    }
}

/// Why a configuration is refused: the file, the place in it, and what is accepted there.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `path`, or [`DEFAULT_PATH`] when there is none; only the latter may be missing.
    ///
    /// # Errors
    /// A file that can't be read, is not TOML, or has an unknown key or a wrong value.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let error = |problem| ConfigError {
            file: file.to_owned(),
            problem,
        };
        match std::fs::read_to_string(file) {
            Ok(text) => parse(&text).map_err(error),
            Err(e) if path.is_none() && e.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(e) => Err(error(format!("can't be read: {e}"))),
        }
    }
}

type Setter = fn(&mut Config, &Value) -> Result<(), String>;

/// Every key there is: its section, its name, and how its value is taken.
const KEYS: [(&str, &str, Setter); 16] = [
    ("bridge", "listen", |config, value| {
        listen(string(value)?).map(|listen| config.listen = listen)
    }),
    ("bridge", "allow_cids", |config, value| {
        list(value, cid).map(|cids| config.allow_cids = cids)
    }),
    ("bridge", "sshd", |config, value| {
        socket_addr(string(value)?).map(|sshd| config.sshd = sshd)
    }),
    ("bridge", "host_keys", |config, value| {
        absolute(string(value)?).map(|directory| config.host_keys = directory)
    }),
    ("bridge", "max_connections", |config, value| {
        number(value, MAX_CONNECTIONS).map(|most| config.max_connections = most)
    }),
    ("bridge", "max_connections_per_origin", |config, value| {
        number(value, MAX_CONNECTIONS).map(|most| config.max_connections_per_origin = Some(most))
    }),
    ("bridge", "max_rate", |config, value| {
        number(value, 1_000_000).map(|rate| config.max_rate = rate)
    }),
    ("metadata", "sources", |config, value| {
        list(value, source).map(|sources| config.sources = Some(sources))
    }),
    ("metadata", "url", |config, value| {
        HttpUrl::parse(string(value)?).map(|url| config.url = url)
    }),
    ("metadata", "document_url", |config, value| {
        HttpUrl::parse(string(value)?).map(|url| config.document_url = Some(url))
    }),
    ("metadata", "file", |config, value| {
        absolute(string(value)?).map(|file| config.file = file)
    }),
    ("metadata", "cache", |config, value| {
        cache(string(value)?).map(|cache| config.cache = cache)
    }),
    ("tunnel", "when", |config, value| {
        when(string(value)?).map(|when| config.when = Some(when))
    }),
    ("report", "url", |config, value| {
        HttpUrl::parse(string(value)?).map(|url| config.report_url = Some(url))
    }),
    ("report", "guest_attributes", |config, value| {
        guest_attributes(string(value)?).map(|choice| config.guest_attributes = choice)
    }),
    ("status", "socket", |config, value| {
        absolute(string(value)?).map(|socket| config.status_socket = socket)
    }),
];

fn parse(text: &str) -> Result<Config, String> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let mut config = Config::default();
    for (section, value) in &table {
        let keys: Vec<_> = KEYS.iter().filter(|(name, ..)| name == section).collect();
        if keys.is_empty() {
            let mut sections = KEYS.map(|(name, ..)| name).to_vec();
            sections.dedup();
            return Err(unknown(&format!("[{section}]"), section, &sections));
        }
        let Value::Table(entries) = value else {
            return Err(format!(
                "{section}: found {}, expected a section [{section}]",
                kind(value)
            ));
        };
        for (key, value) in entries {
            let place = format!("[{section}] {key}");
            let Some((.., set)) = keys.iter().find(|(_, name, _)| name == key) else {
                let names: Vec<_> = keys.iter().map(|(_, name, _)| *name).collect();
                return Err(unknown(&place, key, &names));
            };
            set(&mut config, value).map_err(|problem| format!("{place}: {problem}"))?;
        }
    }
    agrees(&config)?;
    Ok(config)
}

/// Checks what no key can tell by itself.
fn agrees(config: &Config) -> Result<(), String> {
    let (all, own) = (config.max_connections, config.max_connections_per_origin);
    if let Some(own) = own.filter(|own| *own > all) {
        return Err(format!(
            "[bridge] max_connections_per_origin: found {own}, expected no more than \
             max_connections, {all}"
        ));
    }
    let sources = config.sources.as_deref().unwrap_or_default();
    if sources.contains(&SourceName::Url) && config.document_url.is_none() {
        return Err(
            "[metadata] sources: found \"url\", expected document_url beside it".to_owned(),
        );
    }
    Ok(())
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    match text.split_once(':') {
        Some(("vsock", port)) => match port.parse() {
            Ok(port) if port != u32::MAX => Ok(Listen::Vsock(port)),
            _ => Err(format!(
                "found the vsock port \"{port}\", expected 0 to 4294967294"
            )),
        },
        Some(("unix", path)) => Ok(Listen::Unix(absolute(path)?)),
        _ => Err(format!(
            "found \"{text}\", expected \"vsock:PORT\", \"unix:/path\" or \"off\""
        )),
    }
}

fn cid(value: &Value) -> Result<u32, String> {
    let expected = "expected a context ID from 0 to 4294967295";
    let number = value
        .as_integer()
        .and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("found {}, {expected}", kind(value)))
}

fn number<T>(value: &Value, most: T) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    value
        .as_integer()
        .filter(|number| *number > 0)
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("found {}, expected 1 to {most}", kind(value)))
}

fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(format!(
            "found \"{text}\", expected an address with a port: \"127.0.0.1:22\""
        )),
    }
}

fn source(value: &Value) -> Result<SourceName, String> {
    let text = string(value)?;
    let names = SourceName::ALL.map(SourceName::as_str);
    match SourceName::ALL
        .into_iter()
        .find(|name| name.as_str() == text)
    {
        Some(name) => Ok(name),
        None => Err(unknown(&format!("\"{text}\""), text, &names)),
    }
}

fn guest_attributes(text: &str) -> Result<GuestAttributes, String> {
    match text {
        "auto" => Ok(GuestAttributes::Auto),
        "always" => Ok(GuestAttributes::Always),
        "never" => Ok(GuestAttributes::Never),
        _ => Err(format!(
            "found \"{text}\", expected \"auto\", \"always\" or \"never\""
        )),
    }
}

fn cache(text: &str) -> Result<Cache, String> {
    match text {
        "runtime" => Ok(Cache::Runtime),
        "state" => Ok(Cache::State),
        "off" => Ok(Cache::Off),
        _ => Err(format!(
            "found \"{text}\", expected \"runtime\", \"state\" or \"off\""
        )),
    }
}

fn when(text: &str) -> Result<When, String> {
    match text {
        "auto" => Ok(When::Auto),
        "always" => Ok(When::Always),
        "never" => Ok(When::Never),
        _ => Err(format!(
            "found \"{text}\", expected \"auto\", \"always\" or \"never\""
        )),
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        return Ok(path);
    }
    Err(format!("found \"{text}\", expected an absolute path"))
}

fn string(value: &Value) -> Result<&str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("found {}, expected a string", kind(value)))
}

fn list<T>(value: &Value, item: fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = value
        .as_array()
        .ok_or_else(|| format!("found {}, expected a list", kind(value)))?;
    items.iter().map(item).collect()
}

fn kind(value: &Value) -> String {
    match value {
        Value::Table(_) => "a section".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("\"{text}\""),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => time.to_string(),
    }
}

fn unknown(place: &str, found: &str, known: &[&str]) -> String {
    let near = |name: &&&str| strsim::levenshtein(found, name) <= name.len().div_ceil(2);
    let nearest = known
        .iter()
        .min_by_key(|name| strsim::levenshtein(found, name))
        .filter(near);
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
    format!("{place} is unknown{hint} (accepted: {})", known.join(", "))
}

#[cfg(test)]
mod tests;
