//! `qnet-ping NODE NAME`: can the service of that name be reached, and if not, which step fails?
//!
//! ```text
//!  resolved?  the node's name leads to a node                    (main.rs; exit status 2 when not)
//!  session    the node answers a ping
//!  name       the node, or its gns, knows a channel of that name
//!  connect    the node lets us connect to it
//!  server     the server answers an open, as name_open() sends it
//! ```

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::libc;
use qnet::names::{self, Scope, Service, Target};
use qnet::{Connection, Error, LOCAL_NODE, Netmgr, Root};

use crate::{RawArgs, reason, refusal};

/// Time beyond a server's patience after which even its own library has nothing to say any more.
const GRACE: Duration = Duration::from_secs(1);

/// A step that did not succeed, and why.
struct Failed {
    step: &'static str,
    why: String,
}

/// Whether the service answers. Says so, step by step.
///
/// # Errors
/// The question cannot be put.
pub(crate) fn check(
    raw: &RawArgs,
    name: &str,
    (root, netmgr, nd): (&Root, &Netmgr, u32),
    out: &mut impl Write,
) -> Result<bool> {
    let target = Target::parse(root, name, Scope::Local)
        .map_err(|error| anyhow::anyhow!("{name}: not a name of a channel: {error}"))?;
    let mut say = |line: String| if raw.quiet { Ok(()) } else { writeln!(out, "{line}") };
    match netmgr.ping(nd, raw.link.as_deref(), raw.patience) {
        Ok(Ok(pong)) if pong.link.is_empty() => say("session: this node itself".to_owned())?,
        Ok(Ok(pong)) => {
            let milliseconds = pong.rtt.as_secs_f64() * 1000.0;
            say(format!("session: {} answers over {} in {milliseconds:.3} ms", pong.addr, pong.link))?;
        }
        Ok(Err(silence)) => return fail(out, Failed { step: "session", why: reason(&silence, raw) }),
        Err(error) => return Err(refusal(&error, raw)),
    }
    let services = match find(root, netmgr, nd, &target) {
        Ok(services) => services,
        Err(error) => return fail(out, Failed { step: "name", why: why_no_name(&error, &target) }),
    };
    let mut last = None;
    for service in services {
        let Service { pid, chid, .. } = service;
        let place =
            if service.nd == nd { String::new() } else { format!(" on {}", node_of(netmgr, service.nd)) };
        say(format!("name: {} is channel {chid} of process {pid}{place}", target.path()))?;
        match open(root, service, raw.patience) {
            Ok(time) => {
                say("connect: allowed".to_owned())?;
                say(format!("server: answered in {:.3} ms", time.as_secs_f64() * 1000.0))?;
                return Ok(true);
            }
            Err(failed) => last = Some(failed),
        }
    }
    let none = || Failed { step: "name", why: why_no_name(&Error::Errno(libc::ENOENT), &target) };
    fail(out, last.unwrap_or_else(none))
}

fn fail(out: &mut impl Write, Failed { step, why }: Failed) -> Result<bool> {
    writeln!(out, "{step}: failed: {why}")?;
    Ok(false)
}

fn find(root: &Root, netmgr: &Netmgr, nd: u32, target: &Target) -> Result<Vec<Service>, Error> {
    match nd {
        LOCAL_NODE => names::find(root, &Target { node: None, ..target.clone() }),
        nd => names::find_at(netmgr, nd, target),
    }
}

fn node_of(netmgr: &Netmgr, nd: u32) -> String {
    netmgr.ndtostr(0, nd).unwrap_or_else(|_| format!("node {nd}"))
}

fn why_no_name(error: &Error, target: &Target) -> String {
    let path = target.path();
    match error.errno() {
        libc::ENOENT if target.scope == Scope::Global => {
            format!("nobody has {path}, as far as the node and its gns know")
        }
        libc::ENOENT => format!("nobody has {path} there"),
        libc::EISDIR => format!("{path} is a directory of names"),
        libc::ENOTDIR => format!("a part of {path} is the name of a channel, not a directory"),
        libc::EPERM | libc::EACCES => format!("the node does not show {path} to us"),
        libc::ESRCH => "the node's server, which knows its names, does not run".to_owned(),
        _ => error.to_string(),
    }
}

/// Connects and opens, as `name_open` does; tells how long that took.
fn open(root: &Root, service: Service, patience: Duration) -> Result<Duration, Failed> {
    let (sender, receiver) = mpsc::channel();
    // A stopped server takes no connection, and one that wants to hear of clients that leave may never let them: both
    // would keep us for ever.
    let root = root.clone();
    thread::spawn(move || sender.send(connect_and_greet(&root, service, patience)));
    match receiver.recv_timeout(patience + GRACE) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(silent(patience)),
    }
}

fn connect_and_greet(root: &Root, service: Service, patience: Duration) -> Result<Duration, Failed> {
    let start = Instant::now();
    let Service { nd, pid, chid } = service;
    let not_connected = |error: &Error| Failed { step: "connect", why: why_no_connection(error) };
    let connection = Connection::attach(root, nd, pid, chid).map_err(|error| not_connected(&error))?;
    names::greet(&connection, Some(start + patience)).map_err(|error| match error.errno() {
        _ if matches!(error, Error::Refused { .. }) => not_connected(&error),
        libc::ETIMEDOUT => silent(patience),
        libc::ESRCH => Failed { step: "server", why: "it ended meanwhile".to_owned() },
        _ => Failed { step: "server", why: format!("it answers an open with: {error}") },
    })?;
    Ok(start.elapsed())
}

fn silent(patience: Duration) -> Failed {
    let seconds = patience.as_secs_f64();
    let why =
        format!("it has not answered within {seconds} s; it lives, but does not receive, or does not reply");
    Failed { step: "server", why }
}

fn why_no_connection(error: &Error) -> String {
    match error.errno() {
        libc::EPERM | libc::EACCES => {
            "the node lets us connect to no channel; allow=connect (or mapany=, maproot=) there would"
                .to_owned()
        }
        libc::ESRCH => "its process, or the channel, is gone".to_owned(),
        _ => error.to_string(),
    }
}
