//! What a call of `umount` means, as far as that can be told from the arguments alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;

/// Take a driver or a protocol out of a running io-pkt
#[derive(Debug, Parser)]
#[command(name = "qnx-umount", version, after_help = EXAMPLES)]
pub(crate) struct RawArgs {
    /// Say what was unmounted
    #[arg(short = 'v')]
    pub(crate) verbose: bool,
    /// Accepted: io-pkt takes a busy driver away in any case
    #[arg(short = 'f')]
    pub(crate) force: bool,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Such as /dev/io-net/en0, en0, the name that Linux has for it (eth1), or /dev/io-net/bridge0
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  umount /dev/io-net/en0
  umount en1

Exit status:
  0 unmounted, 1 not, 2 for a wrong call; else the next umount's

Notes:
  Qnet cannot be unmounted, as in QNX; it goes when io-pkt ends.
  Called by the name umount, every call without a path of io-pkt goes to the
  next umount in PATH.";

/// Reads the arguments, the program's name first; `None` when they cannot be meant for us.
pub(crate) fn read(args: &[OsString]) -> Option<RawArgs> {
    let name = args.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default();
    let called_by_real_name = name.to_string_lossy().starts_with("qnx-");
    match RawArgs::try_parse_from(args) {
        Ok(raw) => Some(raw),
        // Under our own name help and complaints are ours; under the system's they are the system's.
        Err(error) if called_by_real_name => error.exit(),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(line: &str) -> Option<Vec<String>> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        read(&args).map(|raw| raw.paths)
    }

    #[test]
    fn paths_and_the_originals_options_are_read() {
        assert_eq!(
            paths("umount -fv /dev/io-net/en0 en1").as_deref(),
            Some(&["/dev/io-net/en0".into(), "en1".into()][..])
        );
    }

    #[test]
    fn options_of_the_systems_umount_are_the_systems() {
        for line in ["umount -a", "umount -l /mnt", "umount --help", "umount", "umount -t ext4 /mnt"] {
            assert_eq!(paths(line), None, "{line}");
        }
    }
}
