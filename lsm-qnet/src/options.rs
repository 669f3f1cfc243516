//! What the user may set.
//!
//! Names and defaults are QNX's where QNX has the option. A tick is the unit of most times: 200 ms, unless
//! `periodic_ticks=` says otherwise.

use std::{path::Path, time::Duration};

use io_pkt_sdk::{Args, Error, Opt};
use qnet_proto::{Config, Domain, NodeName};

use crate::{
    Access,
    hostname::{NameSource, machine_name},
    mountpoint, node_name,
    places::{Carrier, Places},
    tuning::Tuning,
};

/// The options, as the host checks and lists them.
pub(crate) const OPTIONS: &[Opt] = &[
    // DEVIATION: on QNX it changes the machine's host name, which is Linux's here.
    Opt::text("host", "name of this node, with or without a domain (default: the host name)"),
    // DEVIATION: QNX takes the domain from the system configuration only.
    Opt::text("domain", "domain of this node (default: what follows the first dot of the host name)"),
    Opt::text("mount", "network directory DIR[:[.]DOMAIN]...; may be repeated (default /net)").repeated(),
    Opt::text(
        "resolve",
        "how names of the next directories are found: en_ionet, file[:PATH], dns, NAME[:PARAM]; may be repeated (default en_ionet)",
    )
    .repeated(),
    Opt::text(
        "bind",
        "use this interface, such as en0; may be repeated (default: all); or ip, or udp[:PORT]",
    )
    .repeated(),
    Opt::number(
        "auto_add",
        "ticks between announcements; 0: neither announce nor listen (default 150)",
        0,
        MANY,
    ),
    Opt::number(
        "do_crc",
        "1: put a checksum on every packet and check those that have one (default 0)",
        0,
        1,
    ),
    Opt::number("enforce_crc", "1: with do_crc=1, drop packets without a checksum (default 0)", 0, 1),
    Opt::text("mapany", "user id that every caller from another node becomes, or `off` (default: nobody)"),
    Opt::text("maproot", "user id that root of another node becomes (default: as mapany)"),
    Opt::text(
        "allow",
        "what nobody may do beside reading: write:exec:signal:connect, any of them (default: none)",
    ),
    Opt::number("mtu_en", "largest packet in bytes, the same on all nodes (default 1500)", 101, 65_535),
    Opt::number("periodic_ticks", "ticks in a second (default 5)", 1, 1000),
    Opt::number("tx_ticks", "ticks before a packet is sent again at the latest (default 1)", 1, MANY),
    Opt::number(
        "tx_retries",
        "times a packet is sent again before the node counts as down (default 25)",
        0,
        MANY,
    ),
    Opt::number("res_ticks", "ticks between requests for a node's address (default 1)", 1, MANY),
    Opt::number("res_retries", "further requests before a name counts as unknown (default 2)", 0, MANY),
    Opt::number("conn_est_timeout", "ticks between attempts to reach a node (default 1)", 1, MANY),
    Opt::number(
        "conn_est_retries",
        "further attempts before a node counts as unreachable (default 1)",
        0,
        MANY,
    ),
    Opt::number(
        "conn_up_idle",
        "silent ticks after which a node is asked for a sign of life (default 50)",
        1,
        MANY,
    ),
    Opt::number("conn_up_retries", "unanswered signs before the node counts as down (default 6)", 1, MANY),
    Opt::number("no_ack", "1: neither send nor expect acknowledgements, on all nodes alike (default 0)", 0, 1),
    Opt::number(
        "slow_mode",
        "ticks for which little is sent at once to a node that fell silent; 0: never (default 1200)",
        0,
        MANY,
    ),
    Opt::number(
        "probe_no_l4_time",
        "ticks after which an interface that has not heard of a node asks for it (default: as conn_up_idle)",
        1,
        MANY,
    ),
    // DEVIATION: on QNX it bounds the interfaces of Qnet; nodes on different wires need not compete for them.
    Opt::number("max_num_l4s", "most interfaces that are used towards one node (default 2)", 1, 4),
    Opt::number(
        "max_tx_bufs",
        "packet buffers kept for sending when all others are in use (default 500)",
        0,
        65_536,
    ),
    Opt::number("vtag", "VLAN of every packet, sent and heard (default none)", 1, 4094),
    Opt::text("export", "directory that other nodes see, PATH[:ro]; may be repeated (default all)")
        .repeated(),
    Opt::text("symlinks", "how links of other nodes read: node (their own files) or verbatim (default node)"),
    Opt::text("cache", "what is remembered of other nodes' files: open (until they are opened) or none (default open)"),
    Opt::number(
        "qos_verbose",
        "1: log sessions that begin and end; 2: also paths that answer or do not (default 0)",
        0,
        2,
    ),
    Opt::flag("verbose", "log nodes that come into the list and leave it, and sessions that begin and end"),
    Opt::number("no_slog", "accepted; Linux has no slogger (default 0)", 0, MANY),
    Opt::number("qos_per_pri", "accepted; Qnet has no thread of its own here (default none)", 0, 255),
    Opt::number("qos_tx_pri", "accepted; Qnet has no thread of its own here (default none)", 0, 255),
    Opt::number("ret_drvr_rx_buf", "accepted; received buffers are never held here (default 0)", 0, 1),
];

/// Largest number of ticks or retries.
const MANY: u64 = 10_000_000;

/// Everything that was set, resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the node's name comes from.
    pub name: NameSource,
    /// The host name is followed; with the value of `domain=`, which stays.
    pub follow_in: Option<Option<String>>,
    /// Network directories, resolvers, carrier.
    pub places: Places,
    /// Who remote callers become.
    pub access: Access,
    /// Log more.
    pub verbose: bool,
    /// The rest.
    pub tuning: Tuning,
    /// The numbers for the protocol core; name, domain, incarnation and seed are filled in by [`Settings::config`].
    template: Config,
}

impl Settings {
    /// Reads the arguments of `create`.
    ///
    /// # Errors
    /// `EINVAL` with the option and the value.
    pub fn from_args(args: &Args<'_>) -> Result<Self, Error> {
        let name = node_name(args.text("host"), args.text("domain"), &machine_name())?;
        let follows = args.text("host").is_none() && matches!(name, NameSource::Known(..));
        let follow_in = follows.then(|| args.text("domain").map(str::to_owned));
        let places = Places::read(args.iter(), args.net(), name.domain())?;
        if !matches!(places.carrier, Carrier::Ethernet(_)) && matches!(name, NameSource::Address(_)) {
            let text = "this machine has no name, and without Ethernet no address to make one of; host= gives it one";
            return Err(Error::new(libc::EINVAL, text));
        }
        places.places.iter().try_for_each(|place| mountpoint::check(&place.path))?;
        let access = Access::new(args.text("mapany"), args.text("maproot"), args.text("allow"))?;
        let template = template(args)?;
        let tuning = Tuning::from_args(args)?;
        if let (Some(vlan), Carrier::Ip | Carrier::Udp(_)) = (tuning.vlan, &places.carrier) {
            let text = format!("vtag={vlan}: a VLAN is one of Ethernet; bind=ip and bind=udp have none");
            return Err(Error::new(libc::EINVAL, text));
        }
        Ok(Self { name, follow_in, places, access, verbose: args.flag("verbose"), tuning, template })
    }

    /// The core's settings for a node of that name.
    #[must_use]
    pub fn config(&self, name: NodeName, domain: Domain, incarnation: u64, seed: u64) -> Config {
        let directories = self.places.places.iter().map(|place| place.directory.clone()).collect();
        Config { name, domain, incarnation, seed, directories, ..self.template.clone() }
    }

    /// Whether an interface of that name is to be used.
    #[must_use]
    pub fn uses(&self, interface: &str) -> bool {
        match &self.places.carrier {
            Carrier::Ethernet(names) => names.is_empty() || names.iter().any(|name| name == interface),
            Carrier::Ip | Carrier::Udp(_) => false,
        }
    }

    /// The network directories, the default one first.
    pub fn mounts(&self) -> impl Iterator<Item = &Path> {
        self.places.places.iter().map(|place| place.path.as_path())
    }
}

fn template(args: &Args<'_>) -> Result<Config, Error> {
    let mut config = Config::new(NodeName::from_mac([0; 6]), Domain::default(), 1, 1);
    let set = |field: &mut u32, name: &str| {
        // The host has checked the limits, which all fit.
        if let Some(value) = args.number(name).and_then(|value| u32::try_from(value).ok()) {
            *field = value;
        }
    };
    config.may_move = true;
    set(&mut config.auto_add, "auto_add");
    set(&mut config.mtu_en, "mtu_en");
    set(&mut config.tx_ticks, "tx_ticks");
    set(&mut config.tx_retries, "tx_retries");
    set(&mut config.res_ticks, "res_ticks");
    set(&mut config.res_retries, "res_retries");
    set(&mut config.conn_est_timeout, "conn_est_timeout");
    set(&mut config.conn_est_retries, "conn_est_retries");
    set(&mut config.conn_up_idle, "conn_up_idle");
    set(&mut config.conn_up_retries, "conn_up_retries");
    set(&mut config.max_num_l4s, "max_num_l4s");
    set(&mut config.slow_mode, "slow_mode");
    config.probe_no_l4_time = args.number("probe_no_l4_time").and_then(|ticks| u32::try_from(ticks).ok());
    config.no_ack = args.number("no_ack") == Some(1);
    if let Some(ticks) = args.number("periodic_ticks").and_then(|ticks| u32::try_from(ticks).ok()) {
        config.tick = Duration::from_secs(1) / ticks.max(1);
    }
    config.do_crc = args.number("do_crc") == Some(1);
    config.enforce_crc = args.number("enforce_crc") == Some(1);
    if config.enforce_crc && !config.do_crc {
        return Err(Error::new(libc::EINVAL, "enforce_crc=1: works only together with do_crc=1"));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    fn options() -> impl Iterator<Item = (&'static str, &'static str)> {
        super::OPTIONS.iter().map(|option| (option.name(), option.help()))
    }

    #[test]
    fn the_manual_lists_every_option_with_its_default() {
        let manual = include_str!("../../docs/qnet.md");
        for (name, help) in options() {
            let starts = [format!("| `{name}=` |"), format!("| `{name}` |")];
            let row = manual.lines().find(|line| starts.iter().any(|start| line.starts_with(start)));
            let row = row.unwrap_or_else(|| panic!("docs/qnet.md does not list {name}"));
            let default = help.split_once("(default ").map(|(_, rest)| rest.trim_end_matches(')'));
            if let Some(default) = default.filter(|text| text.parse::<u32>().is_ok()) {
                assert!(
                    row.ends_with(&format!("| {default} |")),
                    "the default of {name} is {default}: {row}"
                );
            }
        }
    }
}
