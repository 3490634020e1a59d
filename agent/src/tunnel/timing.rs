//! Every duration of the tunnel, in one place.

use std::time::Duration;

/// The durations; [`Timing::default`] is what ships.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Looking a proxy's name up. The lookup itself goes on, and the next attempt joins it.
    pub lookup: Duration,
    /// Connecting to one of the proxy's addresses.
    pub dial: Duration,
    /// How long one address has before the next is raced against it (RFC 8305, 8).
    pub dial_stagger: Duration,
    /// From the connection to the end of the key exchange.
    pub handshake: Duration,
    /// How long a newer certificate is waited for before a login with one that has expired. The
    /// metadata is read again 2 s after it was last read at the latest.
    pub renew: Duration,
    /// Logging in.
    pub auth: Duration,
    /// The answer to a forward request.
    pub forward: Duration,
    /// A whole attempt: a backstop behind the deadlines of its steps.
    pub attempt: Duration,
    /// Between two keepalives.
    pub keepalive: Duration,
    /// How long the answer to a keepalive may take. A session on which nothing at all has arrived
    /// for this and `keepalive` together, 13 s, is dead: so another proxy can be up within 15 s of
    /// the fault, on a machine that is busy too.
    pub keepalive_lost: Duration,
    /// The longest silence on a line with a long round trip: as long as `ssh` with
    /// `ServerAliveInterval 5` and `ServerAliveCountMax 3` takes.
    pub silence: Duration,
    /// A session after news of a gap in time must answer in this; it has likely been given up.
    pub wake: Duration,
    /// The longest delay before the first attempt after a tunnel was lost: all agents of a proxy
    /// that restarts lose it in the same moment.
    pub spread: Duration,
    /// The first delay before another attempt; doubled for each one.
    pub retry_base: Duration,
    /// The longest delay where the world heals by itself.
    pub retry_cap: Duration,
    /// The longest delay while no connection to the proxy comes about: to ask costs it nothing.
    pub free_cap: Duration,
    /// Where a person has to act, they may be at it: for how long the delays are short, and the
    /// shortest and the longest of them. OpenSSH adds 5 s of penalty for a failed login and
    /// refuses an address from 15 s on (`PerSourcePenalties`, sshd_config(5)), so that one login
    /// in 6 s never gets there. In that time the metadata is read again, too.
    pub slow_young: (Duration, Duration, Duration),
    /// The first delay after that. The penalty is by address, and so it punishes the other guests
    /// behind the same NAT.
    pub slow_base: Duration,
    /// The longest delay where a person has to act.
    pub slow_cap: Duration,
    /// A tunnel that has been up for so long is healthy: the delays start over.
    pub healthy: Duration,
    /// The longest delay before a held port is asked for again: while it may be a ghost of our
    /// own, and later.
    pub port_held: (Duration, Duration),
    /// How long a ghost may hold the port. With the `ClientAliveInterval` and `CountMax` that we
    /// recommend, 15 s and 3, sshd 10.0 ends a silent session after 58 s and 9.2 after 118 s;
    /// later while somebody dials its port.
    pub port_held_ghost: Duration,
    /// How long a port may be held until another proxy is tried, if there is one.
    pub port_held_leave: Duration,
    /// About how long between two looks at the first proxy, while up on another.
    pub scout: Duration,
    /// Between two probes while up.
    pub probe: Duration,
    /// A probe's dial.
    pub probe_deadline: Duration,
    /// A probe's exchange: about five round trips.
    pub probe_exchange: Duration,
    /// The first and the longest delay between probes that fail.
    pub probe_retry: (Duration, Duration),
    /// The longest delay between probes that find no sshd in this guest: it is on its way back.
    pub probe_sshd: Duration,
    /// How long users who came in make a probe worthless that fails on its way.
    pub vouched: Duration,
    /// A tunnel that is proven and has been up for so long needs no better forward.
    pub settled: Duration,
    /// How long after its grant a forward counts as up without proof.
    pub prove: Duration,
    /// How long a forward that fails its probes is kept while nobody uses it, before another
    /// login may get a better one (sshd reads its configuration for each new connection only): at
    /// first, and at the longest; doubled each time.
    pub reopen: (Duration, Duration),
    /// An orderly end of a session: cancel the forward, say goodbye.
    pub close: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(10),
            dial: Duration::from_secs(10),
            dial_stagger: Duration::from_millis(250),
            handshake: Duration::from_secs(15),
            renew: Duration::from_secs(4),
            auth: Duration::from_secs(15),
            forward: Duration::from_secs(10),
            attempt: Duration::from_secs(60),
            keepalive: Duration::from_secs(5),
            keepalive_lost: Duration::from_secs(8),
            silence: Duration::from_secs(20),
            wake: Duration::from_secs(2),
            spread: Duration::from_secs(1),
            retry_base: Duration::from_millis(250),
            retry_cap: Duration::from_secs(30),
            free_cap: Duration::from_secs(3),
            slow_young: (
                Duration::from_secs(120),
                Duration::from_secs(6),
                Duration::from_secs(8),
            ),
            slow_base: Duration::from_secs(10),
            slow_cap: Duration::from_secs(300),
            healthy: Duration::from_secs(30),
            port_held: (Duration::from_millis(1800), Duration::from_secs(5)),
            port_held_ghost: Duration::from_secs(240),
            port_held_leave: Duration::from_secs(10),
            scout: Duration::from_secs(60),
            probe: Duration::from_secs(60),
            probe_deadline: Duration::from_secs(5),
            probe_exchange: Duration::from_secs(15),
            probe_retry: (Duration::from_secs(1), Duration::from_secs(60)),
            probe_sshd: Duration::from_secs(10),
            vouched: Duration::from_secs(3600),
            settled: Duration::from_secs(600),
            prove: Duration::from_secs(8),
            reopen: (Duration::from_secs(8), Duration::from_secs(3600)),
            close: Duration::from_secs(1),
        }
    }
}
