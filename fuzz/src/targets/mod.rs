//! The targets, by name.

mod answers;
mod formats;
mod local;
mod netfs;
mod resolver;
mod ring;
mod server;
mod session;
mod victim;

/// A function that bytes must not break.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus folder.
    pub name: &'static str,
    /// What it feeds.
    pub what: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", what: "every reader of the wire, over one packet", run: formats::frame },
    Target { name: "kif", what: "KIF messages, read and written again", run: formats::kif },
    Target { name: "tlv", what: "the extension block", run: formats::tlv },
    Target { name: "ack", what: "ACK and NACK bodies", run: formats::ack },
    Target { name: "session", what: "a node with a session: frames, time and programs", run: session::run },
    Target { name: "resolver", what: "a node that looks for names: LR, NR, TCS_INIT", run: resolver::run },
    Target { name: "hosts", what: "the file of the resolver `file`", run: formats::hosts },
    Target { name: "ipc", what: "packets of local channels", run: local::ipc },
    Target { name: "ring", what: "shared memory of local channels", run: ring::run },
    Target { name: "control", what: "lines of the control socket", run: local::control },
    Target { name: "iomsg", what: "_IO_ messages and network manager messages", run: local::iomsg },
    Target { name: "fuse", what: "requests of the kernel's FUSE", run: local::fuse },
    Target { name: "netfs", what: "the file system: any FUSE requests in any order", run: netfs::run },
    Target { name: "answers", what: "the file system: any answers to its messages", run: answers::run },
    Target { name: "server", what: "messages that qnet-server carries out", run: server::run },
    Target { name: "elf", what: "files that claim to be modules", run: local::elf },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
