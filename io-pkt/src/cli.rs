//! The command line: QNX's grammar for `-d` and `-p`, clap for everything else.
//!
//! ```text
//!  -d NAME [OPTIONS]     -dNAME [OPTIONS]       the same for -p
//! ```
//!
//! The word after the name, up to the next option, is its comma-separated option list. clap reads that as an option
//! with one or two values once the glued form is taken apart, so `separate` runs first.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PathBufValueParser, value_parser};
use io_pkt_host::{Kind, LoadMode};

use crate::{pool::PoolConfig, threads::MAX_THREADS};

/// One `-d` or `-p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountArg {
    /// Driver or protocol.
    pub kind: Kind,
    /// Name or path of the module.
    pub name: String,
    /// Comma-separated options, empty for none.
    pub options: String,
}

/// The command line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// Name by which the program was called, without its directory.
    pub program: String,
    /// Drivers and protocols in the order given.
    pub mounts: Vec<MountArg>,
    /// `-i`
    pub instance: u32,
    /// `-t`
    pub threads: u32,
    /// `-P`
    pub priority: Option<u8>,
    /// Number of `-v`.
    pub verbose: u8,
    /// `--root`
    pub root: Option<PathBuf>,
    /// Go to the background once ready.
    pub background: bool,
    /// `--check`
    pub check: bool,
    /// `--load`
    pub load: LoadMode,
    /// `--spin`; none lets the daemon choose.
    pub spin: Option<Duration>,
    /// `--chunks`, `--chunk-size`
    pub pool: PoolConfig,
    /// Options that QNX has and that have no effect here.
    pub ignored: Vec<char>,
}

/// Names of QNX's variants: scripts that use them expect the program to go to the background once it is ready.
const QNX_NAMES: [&str; 4] = ["io-pkt-v4", "io-pkt-v4-hc", "io-pkt-v6-hc", "io-net"];

const EXAMPLES: &str = "\
Examples:
  io-pkt -d packet dev=eth1 -p qnet
      carries Qnet over the Linux interface eth1
  io-pkt -dpacket dev=eth1 -pqnet do_crc=1,auto_add=5
      the same in QNX's glued spelling, with options of Qnet
  io-pkt -d packet dev=eth1,promiscuous -d packet dev=eth2,promiscuous -p bridge
      bridges two interfaces
  io-pkt -d segment path=/tmp/seg -p qnet
      needs no privilege: the wire is a segment between processes
  io-pkt -i1 -d tap dev=tap0
      a second instance; `mount -T io-pkt1 ...` talks to it
  io-pkt
      nothing yet; `mount -T io-pkt ...` brings drivers and protocols
  io-pkt --check
      what this machine allows, and the cure where it does not

A word after the name of a driver or protocol is its option list: commas, no blanks. \
`-d NAME` looks for devnp-NAME.so, then devn-NAME.so; `-p NAME` for lsm-NAME.so; a name with a slash is a path. \
Modules lie in ../lib/io-pkt beside the program, then in IO_PKT_MODULE_PATH.

In the background the log goes to the system log, or stays on stderr when that is a file. \
SIGTERM, SIGINT and SIGHUP unmount everything in reverse order and end io-pkt.

Environment: IO_PKT_ROOT (as --root), IO_PKT_MODULE_PATH, RUST_LOG (what is logged: debug).";

/// Reads a command line, the program's name included.
///
/// # Errors
/// clap's error, which also carries `--help` and `--version`; its `exit` prints it to the right stream.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    let mut args = args.into_iter();
    let called = args.next().unwrap_or_else(|| "io-pkt".into());
    let program = PathBuf::from(&called)
        .file_name()
        .map_or_else(|| "io-pkt".to_owned(), |name| name.to_string_lossy().into_owned());
    let words = std::iter::once(called).chain(separate(args));
    let matches = command().try_get_matches_from(words)?;
    understand(program, &matches)
}

/// Takes `-dNAME` and `-pNAME` apart. Words behind `--` are left alone.
fn separate(args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut literal = false;
    args.flat_map(move |word| {
        literal |= word == "--";
        match word.to_str() {
            Some(text)
                if !literal && text.len() > 2 && (text.starts_with("-d") || text.starts_with("-p")) =>
            {
                vec![OsString::from(&text[..2]), OsString::from(&text[2..])]
            }
            _ => vec![word],
        }
    })
}

/// The definition of all options; `--help` and the man page come from it.
#[must_use]
pub fn command() -> Command {
    let mount = |id: &'static str, word: &'static str, help: &'static str| {
        Arg::new(id)
            .short(id.chars().next())
            .value_names([word, "OPTIONS"])
            .num_args(1..=2)
            .action(ArgAction::Append)
            .help(help)
    };
    Command::new("io-pkt")
        .about("The network manager: loads drivers and protocols and carries Ethernet frames between them")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXAMPLES)
        .max_term_width(110)
        .arg(mount("d", "DRIVER", "Mount a driver, with options (repeats)"))
        .arg(mount("p", "PROTOCOL", "Mount a protocol, with options (repeats)"))
        .args(numbers())
        .args(switches())
}

fn numbers() -> [Arg; 6] {
    [
        Arg::new("instance")
            .short('i')
            .value_name("N")
            .value_parser(value_parser!(u32).range(0..=9999))
            .default_value("0")
            .help("Instance number; `mount -T io-pktN` talks to this one"),
        Arg::new("threads")
            .short('t')
            .value_name("N")
            .value_parser(packet_threads)
            .default_value("1")
            .help(format!(
                "Packet threads, 1 to {MAX_THREADS}. A driver runs on the thread with the fewest, protocols run on the \
                 first. DEVIATION: 1, not one for each CPU: more pay only with several busy interfaces"
            )),
        Arg::new("priority")
            .short('P')
            .value_name("PRIO")
            .value_parser(value_parser!(u8).range(1..=63))
            .help("QNX priority, 1 to 63; 21 is nice 0, each step above or below is one step of nice, as far as allowed"),
        Arg::new("spin").long("spin").value_name("MICROSECONDS").value_parser(value_parser!(u64).range(0..=1000)).help(
            "How long to look for more frames before sleeping [default: 50, or 0 on a machine with one CPU]",
        ),
        Arg::new("chunks")
            .long("chunks")
            .value_name("N")
            .value_parser(value_parser!(u32).range(256..=1 << 20))
            .default_value("8192")
            .help("Chunks in the packet pool"),
        Arg::new("chunk-size")
            .long("chunk-size")
            .value_name("BYTES")
            .value_parser(["2048", "4096"])
            .default_value("2048")
            .help("Bytes of a chunk; a longer frame takes several"),
    ]
}

fn switches() -> [Arg; 9] {
    let flag = |id: &'static str| Arg::new(id).action(ArgAction::SetTrue);
    [
        Arg::new("verbose").short('v').action(ArgAction::Count).help("Log more: -v debug, -vv trace"),
        Arg::new("root")
            .long("root")
            .value_name("DIR")
            .value_parser(PathBufValueParser::new())
            .help("Keep all names of the node below DIR [as root: /run/io-pkt, /dev/io-net, /net]"),
        flag("foreground")
            .long("foreground")
            .overrides_with("background")
            .help("Stay in the foreground (default, unless called by a QNX name such as io-pkt-v4-hc)"),
        flag("background")
            .long("background")
            .overrides_with("foreground")
            .help("Go to the background once ready"),
        flag("check").long("check").help("Tell in a line each what this machine allows, and the cure"),
        Arg::new("load")
            .long("load")
            .value_name("HOW")
            .value_parser(["copy", "path"])
            .default_value("copy")
            .help("Map modules from a sealed copy, or from their path (for debuggers)"),
        flag("S").short('S').hide(true).help("QNX: no SIGSEGV handler; has no effect here"),
        flag("D").short('D').hide(true).help("QNX: dedicated stack thread; has no effect here"),
        flag("I").short('I').hide(true).help("QNX: no I/O privilege; has no effect here"),
    ]
}

/// `-t`
fn packet_threads(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_THREADS).contains(number));
    number.ok_or_else(|| format!("a number of packet threads from 1 to {MAX_THREADS} is expected"))
}

fn understand(program: String, matches: &ArgMatches) -> Result<Args, clap::Error> {
    let mut mounts = Vec::new();
    for (id, kind) in [("d", Kind::Driver), ("p", Kind::Protocol)] {
        // Each occurrence has one or two values; the index of the first keeps the order between -d and -p.
        let mut indices = matches.indices_of(id).into_iter().flatten();
        for mut words in matches.get_occurrences::<String>(id).into_iter().flatten() {
            let name = words.next().cloned().unwrap_or_default();
            let options = words.next().cloned();
            let index = indices.next().unwrap_or_default();
            if options.is_some() {
                indices.next();
            }
            if name.is_empty() {
                let message = format!("-{id}: the name of a {} is empty", kind.word());
                return Err(command().error(clap::error::ErrorKind::InvalidValue, message));
            }
            mounts.push((index, MountArg { kind, name, options: options.unwrap_or_default() }));
        }
    }
    mounts.sort_by_key(|(index, _)| *index);
    let number = |id: &str| matches.get_one::<u32>(id).copied().unwrap_or_default();
    let chunk_size =
        matches.get_one::<String>("chunk-size").and_then(|text| text.parse().ok()).unwrap_or(2048);
    let qnx_name = QNX_NAMES.contains(&program.as_str());
    Ok(Args {
        program,
        mounts: mounts.into_iter().map(|(_, mount)| mount).collect(),
        instance: number("instance"),
        threads: number("threads").max(1),
        priority: matches.get_one::<u8>("priority").copied(),
        verbose: matches.get_count("verbose"),
        root: matches.get_one::<PathBuf>("root").cloned(),
        background: matches.get_flag("background") || (qnx_name && !matches.get_flag("foreground")),
        check: matches.get_flag("check"),
        load: match matches.get_one::<String>("load").map(String::as_str) {
            Some("path") => LoadMode::Path,
            _ => LoadMode::Memfd,
        },
        spin: matches.get_one::<u64>("spin").copied().map(Duration::from_micros),
        pool: PoolConfig { chunk_size, chunks: number("chunks"), ..PoolConfig::default() },
        ignored: ['S', 'D', 'I']
            .into_iter()
            .filter(|c| matches.get_flag(c.encode_utf8(&mut [0; 4])))
            .collect(),
    })
}

#[cfg(test)]
mod tests;
