//! The living `qnet-netfs` of a mount point, whoever started it.
//!
//! `/net` outlives io-pkt, so the one that serves it may be the child of a daemon that is dead. Its number stands in
//! `ROOT/netfs-HASH.pid`. That file may be older than the process that has the number now, so the process itself is
//! asked before it gets a signal: program, user, and the node and mount point on its command line.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

/// How long their end is waited for. The daemon is ending too then and carries no frames.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often it is looked whether they have ended.
const INTERVAL: Duration = Duration::from_millis(5);

/// Asks those that serve `mounts` for the node at `root` to end, and waits until they have unmounted.
pub(super) fn end(root: &Path, mounts: &[&Path]) {
    let serves = |pid: &i32| is_ours(*pid, root, mounts);
    let mut living: Vec<i32> = numbers(root).filter(serves).collect();
    for pid in &living {
        // ESRCH: it has ended by itself.
        let _ended = kill(Pid::from_raw(*pid), Signal::SIGTERM);
    }
    let deadline = Instant::now() + FAREWELL;
    loop {
        living.retain(serves);
        if living.is_empty() || Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(INTERVAL);
    }
    for pid in living {
        tracing::warn!("qnet-netfs, pid {pid}, was asked to end and still serves the network directory");
    }
}

/// The process numbers in the lock files.
fn numbers(root: &Path) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_lock = name.starts_with("netfs-") && name.ends_with(".pid");
        let words = is_lock.then(|| fs::read_to_string(entry.path()).ok()).flatten()?;
        words.lines().next()?.parse().ok().filter(|pid| *pid > 1)
    })
}

/// The command line of a process that has ended and was not waited for is empty, so that one is not ours any more.
fn is_ours(pid: i32, root: &Path, mounts: &[&Path]) -> bool {
    let about = Path::new("/proc").join(pid.to_string());
    let is_netfs = fs::read_to_string(about.join("comm")).is_ok_and(|name| name.trim_end() == "qnet-netfs");
    let is_me = fs::metadata(&about).is_ok_and(|found| found.uid() == geteuid().as_raw());
    let line = fs::read(about.join("cmdline")).unwrap_or_default();
    let value = |name: &str| {
        let mut words = line.split(|byte| *byte == 0).skip_while(|word| *word != name.as_bytes());
        words.nth(1).map(|value| Path::new(OsStr::from_bytes(value)))
    };
    is_netfs
        && is_me
        && value("--root") == Some(root)
        && value("--mount").is_some_and(|mount| mounts.contains(&mount))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use io_pkt_sdk::testing::Bench;

    use super::*;
    use crate::Qnet;

    /// A process that is called `qnet-netfs` and does nothing.
    fn sleeper(root: &Path, mount: &str) -> Child {
        let program = root.join("qnet-netfs");
        fs::copy("/bin/sh", &program).unwrap();
        let mut command = Command::new(program);
        command.args(["-c", "read wait", "--root"]).arg(root).args(["--mount", mount]);
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        fs::write(root.join("netfs-0123456789abcdef.pid"), format!("{}\ncreated\n", child.id())).unwrap();
        child
    }

    #[test]
    fn the_one_of_this_node_and_mount_point_is_ended() {
        let root = tempfile::tempdir().unwrap();
        let mut child = sleeper(root.path(), "/somewhere");
        end(root.path(), &[Path::new("/elsewhere")]);
        assert!(child.try_wait().unwrap().is_none(), "it serves another mount point");
        end(root.path(), &[Path::new("/elsewhere"), Path::new("/somewhere")]);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn it_ends_with_the_daemon_that_took_it_over() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("net").to_str().unwrap().to_owned();
        let mut child = sleeper(root.path(), &mount);
        let options = [("host", "alonzo"), ("mount", &*mount)];
        let mut bench = Bench::protocol::<Qnet>("qnet", root.path().to_str().unwrap(), &options).unwrap();
        bench.start().unwrap();
        // Its own qnet-netfs has not even started yet.
        bench.stop();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_number_that_another_program_has_now_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(root.path().join("netfs-0123456789abcdef.pid"), format!("{}\n", other.id())).unwrap();
        end(root.path(), &[Path::new("/net")]);
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
