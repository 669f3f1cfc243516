//! Network namespaces for tests of drivers: each test has its own, with interfaces of its own making.
//!
//! Works as root, and for other users where user namespaces are allowed. Never touches the interfaces of the machine.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    process::Command,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

/// To be called first thing in `main`, while there is one thread: makes sure that tests may make namespaces.
///
/// # Errors
/// Why they may not, for people.
pub fn prepare() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        return unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("no network namespaces: {errno}"));
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("not root, and no user namespaces: {errno}"))?;
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (path, text) in maps {
        fs::write(path, text).map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    Ok(())
}

/// A network namespace that lives as long as this value.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// Makes a fresh namespace and moves this thread into it.
    ///
    /// # Panics
    /// When that is not allowed: ask [`prepare`] first.
    #[must_use]
    pub fn enter_fresh() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let this = Self::present().expect("its name in /proc");
        ip("link set lo up");
        this
    }

    /// The namespace of this thread.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn present() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    /// Moves this thread into it.
    ///
    /// # Panics
    /// When that is not allowed.
    pub fn enter(&self) {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("the namespace is ours");
    }

    /// A name of it that `ip link set … netns` takes, for any program while this process lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Runs `ip` with these words, in the namespace of this thread.
///
/// # Panics
/// When it fails, with what it said.
pub fn ip(words: &str) {
    run("ip", words);
}

/// Runs a program with these words, in the namespace of this thread, and returns what it printed.
///
/// # Panics
/// When it fails, with what it said.
pub fn run(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split_whitespace()).env("PATH", search_path()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `PATH`, and where `sysctl` and `ethtool` are when an ordinary user's leaves them out.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Whether a program is in `PATH`, or where the system's own programs are.
#[must_use]
pub fn has(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| Path::new(&dir).join(program).is_file())
}
