//! The helper programs: started, watched, started again after a crash with growing pauses.
//!
//! `qnet-server` serves this node's files to others; it ends when its socket does. `qnet-netfs` mounts the network
//! directory; when a living one of a former daemon serves it already, ours stands by: it takes over when that one dies.

mod living;

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use io_pkt_sdk::{Error, Helper, HelperSpec, Host};
use qnet_ipc::Root;

use crate::{engine::Engine, tuning::Tuning};

/// First pause before a helper is started again, in nanoseconds.
const FIRST_PAUSE: u64 = 200_000_000;
/// Longest pause.
const LONGEST_PAUSE: u64 = 10_000_000_000;
/// A helper that lived this long is taken for sound: the next pause is the first again.
const SOUND: u64 = 30_000_000_000;

/// Number under which the end of the first directory's `qnet-netfs` is told.
const FIRST_NETFS: u64 = 0x100;

/// Which helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    /// That of the network directory with this number.
    Netfs(usize),
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Server => "qnet-server",
            Self::Netfs(_) => "qnet-netfs",
        }
    }

    /// Number under which its end is told; below those of the engine.
    fn token(self) -> u64 {
        match self {
            Self::Server => 1,
            Self::Netfs(number) => FIRST_NETFS + number as u64,
        }
    }
}

/// How far a helper is.
#[derive(Debug)]
enum State {
    Running {
        helper: Helper,
        since: u64,
    },
    /// To be started at that time.
    Waiting {
        at: u64,
    },
    /// Not wanted any more.
    Done {
        why: &'static str,
    },
}

#[derive(Debug)]
struct Watched {
    kind: Kind,
    state: State,
    pause: u64,
}

/// All helpers. Each network directory has a `qnet-netfs` of its own, so that a hung or killed mount takes no other along;
/// which one serves what is told by the lock file of its mount point.
#[derive(Debug)]
pub(crate) struct Helpers {
    host: Host,
    root: Root,
    mounts: Vec<PathBuf>,
    /// What the server shows of this node; none is everything.
    exports: Vec<String>,
    /// How the files of other nodes are shown, for each `qnet-netfs`.
    shown: Vec<String>,
    watched: Vec<Watched>,
}

impl Helpers {
    /// Helpers that are due at once.
    pub(crate) fn new<'m>(
        host: &Host,
        root: &Root,
        mounts: impl Iterator<Item = &'m Path>,
        tuning: &Tuning,
    ) -> Self {
        let due = |kind| Watched { kind, state: State::Waiting { at: 0 }, pause: FIRST_PAUSE };
        let mounts: Vec<PathBuf> = mounts.map(Path::to_owned).collect();
        let watched =
            std::iter::once(Kind::Server).chain((0..mounts.len()).map(Kind::Netfs)).map(due).collect();
        let (exports, shown) = (tuning.exports.clone(), tuning.shown.clone());
        Self { host: host.clone(), root: root.clone(), mounts, exports, shown, watched }
    }

    /// Starts those that are due, and tells when the next one will be.
    pub(crate) fn tick(&mut self, engine: &mut Engine, now: u64) -> Option<u64> {
        for index in 0..self.watched.len() {
            if let State::Waiting { at } = self.watched[index].state
                && at <= now
            {
                let kind = self.watched[index].kind;
                let outcome = self.start(kind, engine);
                let watched = &mut self.watched[index];
                watched.state = match outcome {
                    Ok(helper) => State::Running { helper, since: now },
                    Err(error) => {
                        watched.give_up(&error.to_string(), "it cannot be started");
                        continue;
                    }
                };
            }
        }
        self.next_start()
    }

    /// When the next one is due.
    pub(crate) fn next_start(&self) -> Option<u64> {
        let due = |watched: &Watched| match watched.state {
            State::Waiting { at } => Some(at),
            State::Running { .. } | State::Done { .. } => None,
        };
        self.watched.iter().filter_map(due).min()
    }

    /// A helper ended. False when `token` is none of ours.
    pub(crate) fn on_exit(&mut self, token: u64, status: ExitStatus, engine: &mut Engine, now: u64) -> bool {
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.kind.token() == token) else {
            return false;
        };
        if watched.kind == Kind::Server {
            engine.server_gone();
        }
        watched.on_exit(status, now);
        true
    }

    /// Ends all, and a `qnet-netfs` of a former daemon: ours passes the request on to that one, unless it was asked
    /// before it knew of it.
    pub(crate) fn stop(&mut self) {
        for watched in &mut self.watched {
            let state = std::mem::replace(&mut watched.state, State::Done { why: "Qnet ends" });
            if let State::Running { helper, .. } = state {
                // ESRCH: it has ended by itself.
                let _ended = helper.kill(libc::SIGTERM);
            }
        }
        let mounts: Vec<&Path> = self.mounts.iter().map(PathBuf::as_path).collect();
        living::end(self.root.path(), &mounts);
    }

    /// A line for each, for the report.
    pub(crate) fn describe(&self, now: u64) -> impl Iterator<Item = String> {
        self.watched.iter().map(move |watched| {
            let program = match watched.kind {
                Kind::Netfs(number) if self.mounts.len() > 1 => {
                    format!("{} {}", watched.kind.program(), self.mounts[number].display())
                }
                kind => kind.program().to_owned(),
            };
            match &watched.state {
                State::Running { since, .. } => {
                    format!("{program}: running for {} s", now.saturating_sub(*since) / 1_000_000_000)
                }
                State::Waiting { .. } => format!("{program}: about to be started"),
                State::Done { why } => format!("{program}: not running: {why}"),
            }
        })
    }

    fn start(&self, kind: Kind, engine: &mut Engine) -> Result<Helper, Error> {
        let root = self.root.path().to_string_lossy().into_owned();
        let spec = HelperSpec::new(kind.program(), kind.token()).arg("--root").arg(root);
        match kind {
            Kind::Server => {
                let (peer, socket) = pair()?;
                let spec = self.exports.iter().fold(spec, |spec, export| spec.arg("--only").arg(export));
                let helper = self.host.spawn(&spec.fd(&socket))?;
                engine.set_server(peer)?;
                Ok(helper)
            }
            Kind::Netfs(number) => {
                let mount = self.mounts[number].to_string_lossy().into_owned();
                let spec = if number > 0 { spec.arg("--directory").arg(mount.clone()) } else { spec };
                let spec = self.shown.iter().fold(spec, |spec, argument| spec.arg(argument));
                self.host.spawn(&spec.arg("--mount").arg(mount).arg("--standby"))
            }
        }
    }
}

impl Watched {
    fn on_exit(&mut self, status: ExitStatus, now: u64) {
        let program = self.kind.program();
        let State::Running { since, .. } = self.state else { return };
        let lived = now.saturating_sub(since);
        if self.kind != Kind::Server {
            match status.code() {
                Some(0) => {
                    tracing::info!("{program} ended: the network directory was unmounted");
                    self.state = State::Done { why: "the directory was unmounted" };
                    return;
                }
                // It said why on standard error: no FUSE, the directory is taken.
                Some(_) if lived < SOUND => {
                    return self.give_up("it cannot serve", "see its message in the log");
                }
                _ => {}
            }
        }
        if lived >= SOUND {
            self.pause = FIRST_PAUSE;
        }
        tracing::warn!("{program} ended ({status}); it is started again in {} ms", self.pause / 1_000_000);
        self.state = State::Waiting { at: now + self.pause };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn give_up(&mut self, reason: &str, why: &'static str) {
        match self.kind {
            Kind::Server => tracing::warn!("other nodes cannot read this node's files: {reason}"),
            Kind::Netfs(_) => tracing::warn!("Qnet runs without a network directory: {reason}"),
        }
        self.state = State::Done { why };
    }
}

fn pair() -> Result<(qnet_ipc::ClientPeer, OwnedFd), Error> {
    qnet_ipc::pair().map_err(|error| Error::new(libc::EMFILE, format!("cannot make a socket pair: {error}")))
}
