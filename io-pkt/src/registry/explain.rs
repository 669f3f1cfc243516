//! Sentences for people: what to do when there is no such module.
//!
//! Users of QNX type the names of hardware drivers (`el900`, `speedo`). Those have no module here, because Linux
//! drives the hardware; the message says which command to use instead, with the interfaces that this machine really
//! has.

use std::{fs, path::Path};

use io_pkt_host::{Kind, LoadError, SearchPath};
use nix::net::if_::if_nametoindex;

/// Names of QNX drivers for real hardware, without `devn-` and `devnp-`. Linux has drivers of its own for all of
/// these.
const HARDWARE: [&str; 58] = [
    "asix",
    "ax88172",
    "ax88178",
    "axe",
    "bcm1250",
    "bge",
    "crys8900",
    "dm9102",
    "e1000",
    "ecm",
    "el900",
    "em",
    "et131x",
    "fd",
    "fec",
    "fxp",
    "genet",
    "i218",
    "i80425",
    "i82540",
    "i82542",
    "i82543",
    "i82544",
    "i82557",
    "i82559",
    "ixgbe",
    "klsi",
    "lance",
    "mpc83xx",
    "mpc85xx",
    "msk",
    "mvl",
    "mx6x",
    "natsemi",
    "ncm",
    "ne2000",
    "pcnet",
    "prism",
    "ravb",
    "rtl",
    "rtl8150",
    "rtl8169",
    "rum",
    "sis9",
    "smc9000",
    "smsc9218",
    "smsc9500",
    "speedo",
    "tigon3",
    "tulip",
    "tsec",
    "ural",
    "via-rhine",
    "vmxnet3",
    "vtnet",
    "wm",
    "xgbe",
    "zynq",
];

/// The kinds that a module's name allows: `devn-` and `devnp-` are drivers, `lsm-` and `npm-` protocols, others both.
pub(super) fn kinds_of(name: &str) -> Vec<Kind> {
    let file = Path::new(name).file_name().unwrap_or_default().to_string_lossy().replace('_', "-");
    let file = file.strip_prefix("lib").unwrap_or(&file);
    if file.starts_with("devn-") || file.starts_with("devnp-") {
        vec![Kind::Driver]
    } else if file.starts_with("lsm-") || file.starts_with("npm-") {
        vec![Kind::Protocol]
    } else {
        vec![Kind::Driver, Kind::Protocol]
    }
}

/// Explains that there is no module called `name`.
pub(super) fn no_module(kinds: &[Kind], name: &str, error: &LoadError, search: &SearchPath) -> String {
    let base = name.strip_suffix(".so").unwrap_or(name);
    let base = base.strip_prefix("devnp-").or_else(|| base.strip_prefix("devn-")).unwrap_or(base);
    if kinds.contains(&Kind::Driver) && HARDWARE.contains(&base) {
        return format!(
            "{name}: no such module: Linux drives real network hardware itself. Mount the interface that Linux made of \
             it with `-d packet dev={}` (`mount -T io-pkt -o dev={} devn-packet.so`); {}",
            suggestion(),
            suggestion(),
            present()
        );
    }
    let other = match kinds {
        [Kind::Driver] => Some((Kind::Protocol, "-p")),
        [Kind::Protocol] => Some((Kind::Driver, "-d")),
        _ => None,
    };
    if let Some((kind, letter)) = other.filter(|(kind, _)| search.resolve(*kind, name).is_ok()) {
        return format!("{name}: is a {}: use {letter} {name}", kind.word());
    }
    let modules = modules_in(search, kinds);
    let known = if modules.is_empty() { "none at all".to_owned() } else { modules.join(", ") };
    format!("{error}; there are: {known}")
}

/// Options in a log line.
pub(super) fn with_options(options: &str) -> String {
    if options.is_empty() { String::new() } else { format!(" ({options})") }
}

/// Who holds a lock, for people.
pub(super) fn holder(pid: &str) -> String {
    if pid == std::process::id().to_string() {
        "this io-pkt".to_owned()
    } else {
        format!("the io-pkt with pid {pid}")
    }
}

/// Ethernet interfaces of this machine.
fn interfaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    // 1 is ARPHRD_ETHER.
    let ethernet = |dir: &Path| fs::read_to_string(dir.join("type")).is_ok_and(|kind| kind.trim() == "1");
    let mut names: Vec<_> = entries
        .flatten()
        .filter(|entry| ethernet(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // /sys may be another network namespace's.
        .filter(|name| if_nametoindex(name.as_str()).is_ok())
        .collect();
    names.sort();
    names
}

fn suggestion() -> String {
    interfaces().into_iter().next().unwrap_or_else(|| "eth0".to_owned())
}

fn present() -> String {
    match interfaces() {
        names if names.is_empty() => "this machine has no Ethernet interface at present".to_owned(),
        names => format!("Ethernet interfaces here: {}", names.join(", ")),
    }
}

/// Modules of those kinds that could be mounted, by their short names.
fn modules_in(search: &SearchPath, kinds: &[Kind]) -> Vec<String> {
    let files = search.dirs().iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    let mut names: Vec<_> = files
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let stem = file.strip_suffix(".so")?;
            let stem = stem.strip_prefix("lib").unwrap_or(stem).replace('_', "-");
            let (prefix, short) = stem.split_once('-')?;
            let kind = match prefix {
                "devn" | "devnp" => Kind::Driver,
                "lsm" => Kind::Protocol,
                _ => return None,
            };
            kinds.contains(&kind).then(|| short.to_owned())
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_names_in_every_spelling() {
        assert_eq!(kinds_of("devn-packet.so"), [Kind::Driver]);
        assert_eq!(kinds_of("/x/target/debug/libdevn_tap.so"), [Kind::Driver]);
        assert_eq!(kinds_of("npm-qnet"), [Kind::Protocol]);
        assert_eq!(kinds_of("./liblsm_bridge.so"), [Kind::Protocol]);
        assert_eq!(kinds_of("qnet"), [Kind::Driver, Kind::Protocol]);
    }

    #[test]
    fn a_hardware_name_points_to_the_packet_driver() {
        let search = SearchPath::new(None, []);
        for name in ["el900", "devn-speedo.so", "devnp-e1000"] {
            let error = search.resolve(Kind::Driver, name).unwrap_err();
            let text = no_module(&[Kind::Driver], name, &error, &search);
            assert!(text.contains("-d packet dev=") && text.starts_with(name), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["libdevn_tap.so", "devn-packet.so", "lsm-qnet.so", "libother.so"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let search = SearchPath::new(None, [dir.path().to_owned()]);
        let error = search.resolve(Kind::Driver, "pakcet").unwrap_err();
        let text = no_module(&[Kind::Driver], "pakcet", &error, &search);
        assert!(text.ends_with("there are: packet, tap"), "{text}");
        let error = search.resolve(Kind::Driver, "qnet").unwrap_err();
        assert_eq!(no_module(&[Kind::Driver], "qnet", &error, &search), "qnet: is a protocol: use -p qnet");
    }
}
