//! What a call of `mount` means: ours, or the system's.
//!
//! First a look at the raw arguments finds whether a type of io-pkt is named; only then are they
//! parsed in earnest, so that options of the system's mount are never misread as errors.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use ctl::MountType;

/// A call, taken apart.
#[derive(Debug)]
pub(crate) enum Call {
    /// For io-pkt.
    Ours(Wanted),
    /// For the next mount in `PATH`.
    NotOurs,
}

/// What is to be mounted where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Root directory of the node, when given.
    pub(crate) root: Option<PathBuf>,
    /// Which io-pkt.
    pub(crate) instance: u32,
    /// Module file or name.
    pub(crate) module: String,
    /// Its options, comma-separated.
    pub(crate) options: String,
    /// Say what was mounted.
    pub(crate) verbose: bool,
}

/// Mount a driver or a protocol into a running io-pkt
#[derive(Debug, Parser)]
#[command(name = "qnx-mount", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Type: io-pkt, io-pktN for instance N, or the old io-net; other types go to the system's mount
    #[arg(short = 'T', value_name = "TYPE", visible_short_alias = 't', alias = "types", long = "type")]
    kind: String,
    /// Options for the module, comma-separated; may stand before or after it
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    /// Say what was mounted
    #[arg(short = 'v')]
    verbose: bool,
    /// Accepted for QNX's sake: read only, read and write, update, ignore fstab
    #[arg(short = 'r', visible_short_aliases = ['w', 'u', 'b'], action = clap::ArgAction::Count)]
    _ignored: u8,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Module: a path, or a name such as devn-packet.so or lsm-qnet.so
    #[arg(value_name = "MODULE")]
    module: String,
    /// Accepted and not used: the module decides where it appears
    #[arg(value_name = "MOUNTPOINT")]
    _mount_point: Option<String>,
}

const EXAMPLES: &str = "Examples:
  mount -T io-pkt devn-packet.so -o dev=eth1
  mount -T io-pkt -o do_crc=1 lsm-qnet.so
  mount -Tio-pkt1 ./target/debug/libdevn_tap.so -o dev=tap0

Exit status:
  0 mounted, 1 not, 2 for a wrong call; else the next mount's

Notes:
  Called by the name mount, every call that names no type of io-pkt goes
  to the next mount in PATH.";

/// Words that the system's mount adds by itself; no module knows them.
const GENERIC: [&str; 16] = [
    "rw", "ro", "defaults", "auto", "noauto", "user", "nouser", "users", "exec", "noexec", "suid", "nosuid",
    "dev", "nodev", "nofail", "_netdev",
];

/// Options of QNX's and of Linux's mount whose value may be the next argument.
const WITH_VALUE: &str = "tToLNUOp";

/// Reads the arguments, the program's name first. A wrong call for io-pkt ends the program with status 2.
pub(crate) fn read(args: &[OsString]) -> Call {
    let called = args.first().map(file_name).unwrap_or_default();
    if let Some(kind) = called.strip_prefix("mount.") {
        return as_helper(kind, args);
    }
    let asks_for_help =
        called.starts_with("qnx-") && args.iter().skip(1).any(|arg| arg == "--help" || arg == "-h");
    if !asks_for_help && !names_our_type(&args[1.min(args.len())..]) {
        return Call::NotOurs;
    }
    let raw = RawArgs::parse_from(args);
    let Some(kind) = MountType::parse(&raw.kind) else { return Call::NotOurs };
    Call::Ours(Wanted {
        root: raw.root,
        instance: kind.instance,
        module: raw.module,
        options: raw.options.join(","),
        verbose: raw.verbose,
    })
}

/// The call that the system's mount makes: `mount.TYPE spec dir [-sfnv] [-o options] ...`.
fn as_helper(kind: &str, args: &[OsString]) -> Call {
    let mut wanted = Wanted {
        root: None,
        instance: MountType::parse(kind).map_or(0, |kind| kind.instance),
        module: args.get(1).map(|module| module.to_string_lossy().into_owned()).unwrap_or_default(),
        options: String::new(),
        verbose: false,
    };
    if wanted.module.is_empty() || wanted.module.starts_with('-') {
        eprintln!("usage: mount.{kind} MODULE MOUNTPOINT [-v] [-o OPTIONS]");
        std::process::exit(2);
    }
    let mut rest = args.iter().skip(2).map(|arg| arg.to_string_lossy());
    while let Some(arg) = rest.next() {
        if arg == "-o" {
            let given = rest.next().unwrap_or_default();
            let words: Vec<&str> = given.split(',').filter(|word| !is_generic(word)).collect();
            wanted.options = words.join(",");
        } else if arg.starts_with('-') && !arg.starts_with("--") {
            wanted.verbose |= arg.contains('v');
        }
    }
    Call::Ours(wanted)
}

fn is_generic(word: &str) -> bool {
    word.is_empty() || GENERIC.contains(&word) || word.starts_with("x-") || word.starts_with("comment=")
}

/// Is one of the types named in these raw arguments ours?
fn names_our_type(args: &[OsString]) -> bool {
    let mut rest = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(arg) = rest.next() {
        if arg == "--" {
            return false;
        }
        let value = if let Some(long) = arg.strip_prefix("--") {
            match long.split_once('=') {
                Some(("types" | "type", value)) => Some(value.to_owned()),
                None if long == "types" || long == "type" => rest.next().map(Into::into),
                _ => None,
            }
        } else if let Some(cluster) = arg.strip_prefix('-') {
            let Some(at) = cluster.find(|c| WITH_VALUE.contains(c)) else { continue };
            let (option, glued) = (&cluster[at..=at], &cluster[at + 1..]);
            let value = if glued.is_empty() { rest.next().map(Into::into) } else { Some(glued.to_owned()) };
            value.filter(|_| option.eq_ignore_ascii_case("t"))
        } else {
            None
        };
        if value.is_some_and(|value| MountType::parse(&value).is_some()) {
            return true;
        }
    }
    false
}

fn file_name(path: &OsString) -> String {
    Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Option<Wanted> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match read(&args) {
            Call::Ours(wanted) => Some(wanted),
            Call::NotOurs => None,
        }
    }

    fn wanted(instance: u32, module: &str, options: &str) -> Option<Wanted> {
        let (module, options) = (module.to_owned(), options.to_owned());
        Some(Wanted { root: None, instance, module, options, verbose: false })
    }

    #[test]
    fn all_spellings_of_the_original_are_understood() {
        let expected = wanted(0, "devn-el900.so", "mac=1");
        assert_eq!(call("mount -T io-pkt -o mac=1 devn-el900.so"), expected);
        assert_eq!(call("mount -Tio-pkt -omac=1 devn-el900.so"), expected);
        assert_eq!(call("mount -T io-net devn-el900.so -o mac=1"), expected);
        assert_eq!(call("mount -o mac=1 -t io-pkt devn-el900.so"), expected);
        assert_eq!(call("mount -rTio-pkt -o mac=1 devn-el900.so /somewhere"), expected);
    }

    #[test]
    fn the_type_names_the_instance() {
        assert_eq!(call("/opt/bin/mount -T io-pkt1 x.so"), wanted(1, "x.so", ""));
    }

    #[test]
    fn options_given_twice_are_joined() {
        assert_eq!(call("mount -T io-pkt x.so -o a=1 -o b"), wanted(0, "x.so", "a=1,b"));
    }

    #[test]
    fn other_calls_are_not_ours() {
        for line in [
            "mount",
            "mount -a",
            "mount -t ext4 /dev/sda1 /mnt",
            "mount -T /etc/other.fstab -a",
            "mount -L io-pkt /mnt",
            "mount -o io-pkt /dev/sda1 /mnt",
            "mount --bind -o ro /a /b",
            "mount -- -T io-pkt",
            "mount --help",
            "qnx-mount -V",
        ] {
            assert_eq!(call(line), None, "{line}");
        }
    }

    #[test]
    fn as_helper_of_the_systems_mount_the_generic_options_are_dropped() {
        let expected = wanted(0, "devn-tap.so", "dev=tap0,verbose");
        assert_eq!(call("/sbin/mount.io-pkt devn-tap.so none -o rw,dev=tap0,noexec,verbose"), expected);
        assert_eq!(call("mount.io-pkt2 x.so none").map(|wanted| wanted.instance), Some(2));
    }
}
