//! What a node's `/proc` says of its machine.
//!
//! The files are Linux's; what one of them lacks (a clock rate, on most ARM machines) is left out of the table.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::sync::Arc;

use nix::errno::Errno;
use qnet::{Connection, File};

/// Longest file of `/proc` that is read whole.
const LONGEST: u64 = 4 << 20;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its processors, in their order.
    pub(crate) cpus: Vec<Cpu>,
    /// Family of processors: `X86`, `ARM`, …
    pub(crate) family: &'static str,
    /// The kernel's release, as far as it is digits and dots.
    pub(crate) release: String,
    /// Memory for programs that start now, and all memory; MiB.
    pub(crate) memory: (u64, u64),
    /// When it booted; seconds since 1970.
    pub(crate) booted: i64,
    /// Processes, when they can be counted.
    pub(crate) processes: Option<usize>,
    /// Threads.
    pub(crate) threads: Option<u64>,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) name: String,
    pub(crate) mhz: Option<u64>,
    pub(crate) fpu: bool,
}

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// On this machine.
    Here,
    /// On the node at the other end.
    There(Arc<Connection>),
}

/// Why a node's facts are not known: an error and what it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) errno: Errno,
    /// The file, if it was one.
    pub(crate) path: Option<&'static str>,
}

impl Source {
    fn read(&self, path: &'static str) -> Result<String, Trouble> {
        let trouble = |errno| Trouble { errno: Errno::from_raw(errno), path: Some(path) };
        let failed = |error: std::io::Error| trouble(error.raw_os_error().unwrap_or(Errno::EIO as i32));
        let mut bytes = Vec::new();
        match self {
            Self::Here => fs::File::open(path).map_err(failed)?.take(LONGEST).read_to_end(&mut bytes),
            Self::There(server) => {
                let file = File::open_on(server, path).map_err(|error| trouble(error.errno()))?;
                file.take(LONGEST).read_to_end(&mut bytes)
            }
        }
        .map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Processes there are; `None` when they cannot be listed.
    fn processes(&self) -> Option<usize> {
        let is_process = |name: &[u8]| name.iter().all(u8::is_ascii_digit);
        match self {
            Self::Here => {
                let names = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
                Some(names.filter(|entry| is_process(entry.file_name().as_encoded_bytes())).count())
            }
            Self::There(server) => {
                let names = qnet::entries(server, "/proc").ok()?;
                Some(names.iter().filter(|name| is_process(name)).count())
            }
        }
    }
}

/// Reads everything.
pub(crate) fn gather(source: &Source) -> Result<Facts, Trouble> {
    let (family, cpus) = cpus(&source.read("/proc/cpuinfo")?);
    let release = source.read("/proc/sys/kernel/osrelease")?;
    let memory = source.read("/proc/meminfo")?;
    let stat = source.read("/proc/stat")?;
    let load = source.read("/proc/loadavg").unwrap_or_default();
    let free = kilobytes(&memory, "MemAvailable:").or_else(|| kilobytes(&memory, "MemFree:"));
    Ok(Facts {
        cpus,
        family,
        release: short_release(&release),
        memory: (free.unwrap_or(0) / 1024, kilobytes(&memory, "MemTotal:").unwrap_or(0) / 1024),
        booted: after(&stat, "btime ").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        processes: source.processes(),
        threads: threads(&load),
    })
}

/// What stands behind `key` at the beginning of a line.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

fn kilobytes(meminfo: &str, key: &str) -> Option<u64> {
    after(meminfo, key)?.split_whitespace().next()?.parse().ok()
}

/// `0.12 0.30 0.41 2/345 6789`: of 345 threads 2 run.
fn threads(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// `6.18.0-2-cloud-amd64` is release 6.18.0: the column is narrow.
fn short_release(text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text[..end].trim_end_matches('.').to_owned()
}

/// Family and processors out of `/proc/cpuinfo`: blocks of `key : value`, one for each processor.
fn cpus(text: &str) -> (&'static str, Vec<Cpu>) {
    let mut cpus = Vec::new();
    let mut family = "?";
    for block in text.split("\n\n") {
        let fields: BTreeMap<&str, &str> = block
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        if !["processor", "cpu"].iter().any(|key| fields.contains_key(key)) {
            continue;
        }
        let field = |key: &str| fields.get(key).copied();
        family = family_of(&field);
        let arm = || Some(format!("implementer {} part {}", field("CPU implementer")?, field("CPU part")?));
        let name = ["model name", "uarch", "cpu"].iter().find_map(|key| field(key)).map(str::to_owned);
        let mhz = field("cpu MHz").or_else(|| field("clock").map(|clock| clock.trim_end_matches("MHz")));
        let features = field("Features").unwrap_or_default();
        cpus.push(Cpu {
            name: name.or_else(arm).unwrap_or_else(|| "processor".to_owned()),
            mhz: mhz.and_then(|text| text.split('.').next()?.parse().ok()),
            fpu: field("fpu") == Some("yes") || features.split(' ').any(|word| word == "fp" || word == "vfp"),
        });
    }
    (family, cpus)
}

fn family_of<'t>(field: &impl Fn(&str) -> Option<&'t str>) -> &'static str {
    if field("vendor_id").is_some() {
        "X86"
    } else if field("CPU implementer").is_some() {
        "ARM"
    } else if field("isa").is_some() {
        "RISCV"
    } else if field("cpu").is_some_and(|cpu| cpu.starts_with("POWER")) {
        "PPC"
    } else {
        "?"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_all() {
        let facts = gather(&Source::Here).expect("/proc is here");
        assert!(
            !facts.cpus.is_empty() && facts.memory.1 >= facts.memory.0 && facts.memory.1 > 0,
            "{facts:?}"
        );
        assert!(facts.booted > 1_000_000_000 && facts.release.contains('.'), "{facts:?}");
        assert!(facts.processes.is_some_and(|count| count > 0), "{facts:?}");
        assert!(facts.threads >= facts.processes.map(|count| count as u64), "{facts:?}");
    }

    #[test]
    fn processors_of_several_kinds_are_read() {
        let x86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Fast\ncpu MHz\t\t: 2394.374\nfpu\t\t: yes\n\n\
                   processor\t: 1\nvendor_id\t: GenuineIntel\nmodel name\t: Fast\n\n";
        let (family, found) = cpus(x86);
        let first = Cpu { name: "Fast".into(), mhz: Some(2394), fpu: true };
        assert_eq!((family, found.len(), &found[0]), ("X86", 2, &first));
        let arm = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n\
                   Hardware\t: none\n";
        let (family, found) = cpus(arm);
        let first = Cpu { name: "implementer 0x41 part 0xd0c".into(), mhz: None, fpu: true };
        assert_eq!((family, found), ("ARM", vec![first]));
        assert_eq!(cpus(""), ("?", vec![]));
    }

    #[test]
    fn a_release_is_cut_where_the_packagers_words_begin() {
        assert_eq!(short_release("6.18.0-2-cloud-amd64\n"), "6.18.0");
        assert_eq!(short_release("6.1.\n"), "6.1");
    }

    #[test]
    fn threads_are_counted_from_the_load() {
        assert_eq!(threads("0.12 0.30 0.41 2/345 6789\n"), Some(345));
        assert_eq!(threads("0.12"), None);
    }
}
