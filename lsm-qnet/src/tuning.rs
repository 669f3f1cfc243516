//! Options beside names, identity and the protocol's own numbers: VLAN, reserve, what is served, what is logged; and
//! those of QNX that mean nothing here.

use std::path::{Component, Path};

use io_pkt_sdk::{Args, Error};

/// `max_tx_bufs` unless it is given, as in QNX.
const RESERVE: u64 = 500;

/// Options that are accepted for the sake of old start scripts, with why they change nothing.
const WITHOUT_MEANING: [(&str, &str); 4] = [
    ("no_slog", "Linux has no slogger; -v, RUST_LOG and the control command log_level say what io-pkt logs"),
    ("qos_per_pri", "Qnet has no thread of its own here; -P sets the priority of io-pkt"),
    ("qos_tx_pri", "Qnet has no thread of its own here; -P sets the priority of io-pkt"),
    ("ret_drvr_rx_buf", "received buffers are never held during reassembly here"),
];

/// What was set of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// VLAN of every packet.
    pub vlan: Option<u16>,
    /// Packet buffers kept for sending.
    pub reserve: usize,
    /// Directories that other nodes see, as `qnet-server --only` takes them; none is everything.
    pub exports: Vec<String>,
    /// What `qnet-netfs` is told of links and caches.
    pub shown: Vec<String>,
    /// How much is logged of sessions; see [`crate::engine::Verbosity`].
    pub qos_verbose: u64,
    /// A sentence for each option that was given and means nothing.
    pub notices: Vec<String>,
}

impl Tuning {
    /// Reads the arguments of `create`.
    ///
    /// # Errors
    /// `EINVAL`, or why a directory cannot be exported, with the option and the value.
    pub(crate) fn from_args(args: &Args<'_>) -> Result<Self, Error> {
        let exports: Vec<String> = args.texts("export").map(str::to_owned).collect();
        exports.iter().try_for_each(|export| check_export(export))?;
        check_overlap(&exports)?;
        let given = |(name, why): &(&str, &str)| {
            args.text(name).map(|value| format!("{name}={value} changes nothing: {why}"))
        };
        Ok(Self {
            // The host has checked the limits.
            vlan: args.number("vtag").and_then(|tag| u16::try_from(tag).ok()),
            reserve: args.number("max_tx_bufs").unwrap_or(RESERVE) as usize,
            exports,
            shown: shown(|option| args.text(option))?,
            qos_verbose: args.number("qos_verbose").unwrap_or(0),
            notices: WITHOUT_MEANING.iter().filter_map(given).collect(),
        })
    }
}

/// The options that only `qnet-netfs` has to do with, and their values.
const SHOWN: [(&str, [&str; 2]); 2] = [("symlinks", ["node", "verbatim"]), ("cache", ["open", "none"])];

/// The arguments for `qnet-netfs` that the options come to.
fn shown<'a>(given: impl Fn(&str) -> Option<&'a str>) -> Result<Vec<String>, Error> {
    let mut arguments = Vec::new();
    for (option, [one, other]) in SHOWN {
        let Some(value) = given(option) else { continue };
        if ![one, other].contains(&value) {
            return Err(Error::new(libc::EINVAL, format!("{option}={value}: {one} or {other}")));
        }
        arguments.extend([format!("--{option}"), value.to_owned()]);
    }
    Ok(arguments)
}

/// Without the right that may stand behind it.
fn path_of(export: &str) -> &Path {
    Path::new(export.strip_suffix(":ro").or_else(|| export.strip_suffix(":rw")).unwrap_or(export))
}

fn check_export(export: &str) -> Result<(), Error> {
    let path = path_of(export);
    let refused = |errno: i32, why: String| Err(Error::new(errno, format!("export={export}: {why}")));
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(is_plain) {
        return refused(
            libc::EINVAL,
            "an absolute path is expected, as in export=/srv/pub or export=/srv/pub:ro".into(),
        );
    }
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => refused(libc::ENOTDIR, "it is not a directory".into()),
        Err(error) => refused(error.raw_os_error().unwrap_or(libc::EIO), error.to_string()),
    }
}

/// A path in two exports could have two rights.
fn check_overlap(exports: &[String]) -> Result<(), Error> {
    for (at, inner) in exports.iter().enumerate() {
        let others = exports.iter().enumerate().filter(|(other, _)| *other != at);
        if let Some((_, outer)) =
            others.into_iter().find(|(_, outer)| path_of(inner).starts_with(path_of(outer)))
        {
            return Err(Error::new(libc::EINVAL, format!("export={inner}: lies in export={outer}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_exported_is_refused() {
        for (export, errno) in [
            ("srv", libc::EINVAL),
            (":ro", libc::EINVAL),
            ("/usr/../etc", libc::EINVAL),
            ("/etc/passwd", libc::ENOTDIR),
            ("/no/such/place:ro", libc::ENOENT),
        ] {
            let error = check_export(export).unwrap_err();
            assert_eq!(error.errno(), errno, "{error}");
            assert!(error.text().starts_with(&format!("export={export}: ")), "{error}");
        }
        for export in ["/usr", "/usr:ro", "/usr:rw", "/usr/", "/"] {
            check_export(export).unwrap();
        }
    }

    #[test]
    fn links_and_caches_are_told_to_who_shows_the_files() {
        let told = |symlinks, cache| {
            shown(|option| match option {
                "symlinks" => symlinks,
                _ => cache,
            })
        };
        assert_eq!(told(None, None).unwrap(), [""; 0]);
        assert_eq!(
            told(Some("verbatim"), Some("none")).unwrap(),
            ["--symlinks", "verbatim", "--cache", "none"]
        );
        let error = told(None, Some("writeback")).unwrap_err();
        assert_eq!((error.errno(), error.text()), (libc::EINVAL, "cache=writeback: open or none"));
    }

    #[test]
    fn no_directory_is_exported_twice() {
        let check =
            |exports: &[&str]| check_overlap(&exports.iter().map(ToString::to_string).collect::<Vec<_>>());
        check(&["/usr/lib", "/usr/libexec:ro", "/etc"]).unwrap();
        for pair in [["/usr", "/usr/lib:ro"], ["/usr/lib", "/usr:ro"], ["/usr", "/usr:ro"], ["/", "/usr"]] {
            assert!(check(&pair).unwrap_err().text().contains("lies in export="), "{pair:?}");
        }
    }
}
