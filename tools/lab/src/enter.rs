//! Runs a program inside of a node: joins the holder's namespaces, then forks and waits.
//!
//! `ip netns exec` would not do: it mounts a new `/sys` and so hides file systems of the node.
//! The program keeps the caller's terminal, standard files and process group; its exit status
//! becomes ours, 128 + N when signal N ended it, 126 or 127 when it could not be started.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, setsid};

use crate::programs::Programs;
use crate::root::{LINKS, PROGRAMS};
use crate::state::{Isolation, LabRecord, NodeRecord, State};
use crate::sys;

/// Variables that would lead a node's programs to places of the machine.
const DROPPED: [&str; 7] = [
    "IO_PKT_ROOT",
    "IO_PKT_MODULE_PATH",
    "XDG_RUNTIME_DIR",
    "TMPDIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "MAIL",
    "OLDPWD",
];

/// What to run, and how.
pub(crate) struct Call {
    /// Program and arguments, at least one.
    pub(crate) command: Vec<OsString>,
    /// Run as this user and group.
    pub(crate) user: Option<u32>,
    /// Do not wait; the output goes to this file of the machine.
    pub(crate) detached: Option<PathBuf>,
}

/// Runs `call` in the node; gives the exit status.
pub(crate) fn run(state: &State, lab: &LabRecord, node: &NodeRecord, call: &Call) -> Result<u8> {
    let programs = Programs::new(lab.programs.clone());
    let log = match &call.detached {
        Some(path) => Some(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| path.display().to_string())?,
        ),
        None => None,
    };
    let mut command = Command::new(&call.command[0]);
    command.args(&call.command[1..]);
    for name in DROPPED {
        command.env_remove(name);
    }
    if lab.isolation == Isolation::Roots {
        let links = state.links_dir();
        command.env("PATH", search_path(&[&links, &programs.inside(programs.folder())]));
        command.env("IO_PKT_ROOT", state.node_dir(&node.name).join("root"));
    } else {
        // Looked up while the machine's files are still in sight.
        let programs = programs.inside(Path::new(PROGRAMS));
        join(lab, node)?;
        let home = if call.user.is_some() { "/tmp" } else { "/root" };
        command.env("PATH", search_path(&[Path::new(LINKS), &programs]));
        command.env("HOME", home).env("USER", "root").env("LOGNAME", "root").env("HOSTNAME", &node.name);
        command.env("debian_chroot", &node.name).current_dir(home);
    }
    if let Some(user) = call.user {
        command.uid(user).gid(user);
    }
    match log {
        Some(log) => detach(command, &log),
        None => attached(command),
    }
}

/// Moves this process into the namespaces of `node`; a child is then a process of the node.
pub(crate) fn join(lab: &LabRecord, node: &NodeRecord) -> Result<()> {
    let Some(holder) = node.holder else { bail!("{}: has no namespaces", node.name) };
    let holder = holder.open().with_context(|| format!("{} is down", node.name))?;
    let mut flags = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    if lab.isolation == Isolation::UserNamespaces {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    sys::enter(&holder, flags).with_context(|| format!("cannot enter {}", node.name))
}

/// The given folders before those of the system.
fn search_path(first: &[&Path]) -> OsString {
    let mut path = OsString::new();
    for folder in first {
        path.push(folder);
        path.push(":");
    }
    path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// A child in the node's PID namespace that becomes the program, and we wait for it.
fn attached(command: Command) -> Result<u8> {
    match sys::fork().context("fork")? {
        ForkResult::Child => {
            // Whoever kills us means the program: it shall not stay behind in the node.
            if sys::die_with_parent().is_err() {
                std::process::exit(126);
            }
            become_program(command)
        }
        ForkResult::Parent { child } => {
            ignore_terminal_signals()?;
            status_of(child)
        }
    }
}

/// A grandchild that becomes the program; the node's first process inherits it.
fn detach(mut command: Command, log: &File) -> Result<u8> {
    let null = File::open("/dev/null").context("/dev/null")?;
    command.stdin(null).stdout(log.try_clone()?).stderr(log.try_clone()?);
    match sys::fork().context("fork")? {
        ForkResult::Parent { child } => status_of(child),
        ForkResult::Child => {
            let _ = setsid();
            let status = match command.spawn() {
                Ok(child) => {
                    println!("{}", child.id());
                    0
                }
                Err(error) => cannot_start(&command, &error),
            };
            std::process::exit(i32::from(status))
        }
    }
}

fn become_program(mut command: Command) -> ! {
    let error = command.exec();
    std::process::exit(i32::from(cannot_start(&command, &error)))
}

fn cannot_start(command: &Command, error: &io::Error) -> u8 {
    eprintln!("qnet-lab: {}: {error}", command.get_program().to_string_lossy());
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// The terminal sends these to the whole group: the program decides, we wait for it.
fn ignore_terminal_signals() -> Result<()> {
    for one in [Signal::SIGINT, Signal::SIGQUIT] {
        sys::ignore(one)?;
    }
    Ok(())
}

fn status_of(child: Pid) -> Result<u8> {
    loop {
        match waitpid(child, None).context("waitpid")? {
            WaitStatus::Exited(_, status) => return Ok(u8::try_from(status & 0xff).unwrap_or(1)),
            WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as u8),
            _ => {}
        }
    }
}
