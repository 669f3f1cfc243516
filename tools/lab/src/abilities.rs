//! What this machine allows, found out by trying, each lack with its cure.

use std::fmt;
use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Uid};
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::holder::become_root_of_new_namespace;
use crate::programs::Programs;
use crate::state::Isolation;
use crate::sys;

/// Something that is missing, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What is missing.
    pub what: String,
    /// What a user can type or change.
    pub cure: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.cure)
    }
}

/// What this machine allows the present user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Abilities {
    /// The best way to keep nodes apart.
    pub isolation: Isolation,
    /// Why it is not a better one.
    pub no_namespaces: Option<Lack>,
    /// Why there is no `/net`.
    pub no_fuse: Option<Lack>,
    /// Why there is no `--wire tap`.
    pub no_tap: Option<Lack>,
}

impl Abilities {
    /// Asks the `qnet-lab` program to try.
    ///
    /// # Errors
    /// The program is missing or does not answer.
    pub fn probe() -> Result<Self, LabError> {
        let program = Programs::beside_us()?.find("qnet-lab")?;
        let failed = |text: String| LabError::Failed { what: "qnet-lab probe".to_owned(), text };
        let output = Command::new(&program)
            .arg("probe")
            .output()
            .map_err(|source| LabError::Start { program: program.display().to_string(), source })?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| failed(format!("{error}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// Tries everything in this process, which must have one thread.
    pub(crate) fn try_all() -> Result<Self> {
        let (isolation, no_namespaces) = best_isolation()?;
        Ok(Self {
            isolation,
            no_namespaces,
            no_fuse: device("/dev/fuse", "fuse"),
            no_tap: device("/dev/net/tun", "tun"),
        })
    }
}

fn best_isolation() -> Result<(Isolation, Option<Lack>)> {
    if !in_path("ip") {
        let lack =
            Lack { what: "there is no ip program".into(), cure: "install the package iproute2".into() };
        return Ok((Isolation::Roots, Some(lack)));
    }
    if Uid::effective().is_root() && works(false)? {
        return Ok((Isolation::Namespaces, None));
    }
    if works(true)? {
        return Ok((Isolation::UserNamespaces, None));
    }
    Ok((Isolation::Roots, Some(why_no_namespaces())))
}

/// Makes a node's namespaces in a child process and mounts a `/proc` there, which containers forbid.
fn works(with_user: bool) -> Result<bool> {
    match sys::fork().context("fork")? {
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).context("waitpid")?;
            Ok(matches!(status, WaitStatus::Exited(_, 0)))
        }
        ForkResult::Child => std::process::exit(i32::from(try_namespaces(with_user).is_err())),
    }
}

fn try_namespaces(with_user: bool) -> Result<()> {
    if with_user {
        become_root_of_new_namespace()?;
    }
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // The first child of a new PID namespace lives in it, and may mount its /proc.
    match sys::fork()? {
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            status => anyhow::bail!("{status:?}"),
        },
        ForkResult::Child => {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            std::process::exit(i32::from(
                mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).is_err(),
            ))
        }
    }
}

/// The switches with which systems forbid user namespaces, the most likely first.
pub(crate) fn why_no_namespaces() -> Lack {
    let switches = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "10000"),
    ];
    for (name, bad, good) in switches {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        if fs::read_to_string(path).is_ok_and(|value| value.trim() == bad) {
            return Lack {
                what: format!("this machine forbids user namespaces ({name} = {bad})"),
                cure: format!("type: sudo sysctl -w {name}={good}, or run this as root"),
            };
        }
    }
    Lack {
        what: "this machine allows no namespaces with a /proc of their own (a container, or its seccomp profile)".into(),
        cure: "run this on the machine itself or start the container with --privileged".into(),
    }
}

fn device(path: &str, module: &str) -> Option<Lack> {
    let error = File::options().read(true).write(true).open(path).err()?;
    let cure = match error.kind() {
        std::io::ErrorKind::PermissionDenied => format!("type: sudo chmod 666 {path}"),
        _ => format!("type: sudo modprobe {module}"),
    };
    Some(Lack { what: format!("{path}: {error}"), cure })
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
