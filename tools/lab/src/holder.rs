//! The process that keeps a switch's or a node's namespaces, and is the first process of a node.
//!
//! `qnet-lab hold ...` makes the namespaces, forks the holder and ends; the holder has no parent
//! that could wait for it, no terminal and no output. As process 1 of the node it reaps what the
//! node's daemons leave. It ends on `SIGTERM`, and with a lifeline (its standard input) when that
//! is closed; the kernel then ends every process of the node and removes its mounts and interfaces.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, sethostname, setsid};

use crate::abilities::why_no_namespaces;
use crate::net;
use crate::programs::Programs;
use crate::root::Root;
use crate::state::{Isolation, LabRecord, State};
use crate::sys;

/// Makes the switch's namespaces and its holder; gives the holder's process id.
pub(crate) fn hold_switch(isolation: Isolation, lifeline: bool) -> Result<i32> {
    if isolation == Isolation::UserNamespaces {
        become_root_of_new_namespace()?;
    }
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    spawn(lifeline, || net::make_switch().context("switch"))
}

/// Makes a node's namespaces and its holder; gives the holder's process id.
pub(crate) fn hold_node(
    state: &State,
    lab: &LabRecord,
    name: &str,
    number: usize,
    lifeline: bool,
) -> Result<i32> {
    if lab.isolation == Isolation::UserNamespaces {
        let switch = lab.switch.context("the lab has no switch")?;
        let switch = switch.open().context("the switch is gone; take the lab down (qnet-lab down)")?;
        sys::enter(&switch, CloneFlags::CLONE_NEWUSER).context("cannot enter the lab's user namespace")?;
        become_root_of_new_namespace()?;
    }
    let own = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(own).context("cannot make the node's namespaces")?;
    spawn(lifeline, || {
        let programs = Programs::new(lab.programs.clone());
        let root = Root {
            at: &state.node_dir(name).join("root"),
            name,
            address: &net::address(number),
            programs: &programs,
            wire: &state.wire_dir(),
            share: &lab.share,
        };
        root.enter().context("private root")?;
        sethostname(name).context("host name")?;
        net::prepare_node().context("network")
    })
}

/// A user namespace in which the present user is uid 0 and nobody else exists.
pub(crate) fn become_root_of_new_namespace() -> Result<()> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| anyhow!("cannot make a user namespace: {}", why_not(errno)))?;
    // The kernel wants setgroups given up before one maps one's own group without privilege.
    fs::write("/proc/self/setgroups", "deny").context("/proc/self/setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("/proc/self/uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("/proc/self/gid_map")
}

/// Why the kernel makes no user namespace, in words, with the cure.
fn why_not(errno: Errno) -> String {
    match errno {
        Errno::ENOSPC => {
            "as many as are allowed exist (user.max_user_namespaces, or 32 inside of each other); \
            type: sudo sysctl -w user.max_user_namespaces=10000"
                .to_owned()
        }
        Errno::EPERM => format!("{}", why_no_namespaces()),
        errno => errno.desc().to_owned(),
    }
}

/// Forks the holder, waits until it has prepared itself, and gives its process id.
fn spawn(lifeline: bool, prepare: impl FnOnce() -> Result<()>) -> Result<i32> {
    let (ready, tell) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    match sys::fork().context("fork")? {
        ForkResult::Parent { child } => {
            drop(tell);
            let mut byte = [0];
            match File::from(ready).read(&mut byte).context("holder")? {
                1 => Ok(child.as_raw()),
                _ => bail!("the holder ended before it was ready"),
            }
        }
        ForkResult::Child => {
            drop(ready);
            let status = match prepare().and_then(|()| hold(tell, lifeline)) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("qnet-lab: {error:#}");
                    1
                }
            };
            std::process::exit(status);
        }
    }
}

/// Lets go of the caller's terminal and files, says so, and waits for the end.
fn hold(tell: OwnedFd, lifeline: bool) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    // Process 1 ignores signals without a handler, but not blocked ones.
    signals.thread_block().context("signals")?;
    let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    setsid().context("setsid")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    if !lifeline {
        dup2_stdin(&null)?;
    }
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    File::from(tell).write_all(&[1])?;
    let stdin = std::io::stdin();
    loop {
        wait(signal_fd.as_fd(), lifeline.then(|| stdin.as_fd()))?;
        while let Some(signal) = signal_fd.read_signal()? {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                return Ok(());
            }
        }
        if lifeline && is_cut(stdin.as_fd())? {
            return Ok(());
        }
        reap();
    }
}

fn wait(signals: BorrowedFd, lifeline: Option<BorrowedFd>) -> Result<()> {
    let mut fds = vec![PollFd::new(signals, PollFlags::POLLIN)];
    fds.extend(lifeline.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("poll"),
    }
}

fn is_cut(lifeline: BorrowedFd) -> Result<bool> {
    let mut fds = [PollFd::new(lifeline, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).context("poll")?;
    Ok(fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLIN)))
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
