//! What each control command does.
//!
//! Requests arrive here parsed and permitted; the answers are the types of [`ctl::report`]. Everything is gathered
//! on the loop thread between two turns of frames, so a command sees the daemon at rest.

use std::fs;

use ctl::{
    Command, Counters, ErrorReply, Modules, Outcome, PROTOCOL_VERSION, Version,
    report::{LoopCounters, PoolCounters, Thread},
};
use io_pkt_abi::{ABI_MAJOR, ABI_MINOR};
use nix::errno::Errno;
use serde_json::{Value, json};

use super::{Answer, Request, loads::Loads};
use crate::{
    logging,
    registry::{Found, ModuleFile, MountError, Registry},
};

/// Longest report that is passed on, in bytes; escaped it must still fit into a line.
const MAX_REPORT: usize = 256 << 10;

/// What the commands see of the daemon beside its uses.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name by which the program was called.
    pub program: String,
    /// Counters of the loop.
    pub event_loop: LoopCounters,
    /// Control connections open.
    pub clients: u64,
}

/// Carries out a request that is permitted.
pub fn answer(registry: &mut Registry, loads: &mut Loads, facts: &Facts, request: Request) -> Answer {
    let Request { command, files } = request;
    if let Command::Mount { module, options } = command {
        let file = match files.into_iter().next() {
            Some(fd) => ModuleFile::Open(fs::File::from(fd), module),
            None => ModuleFile::Named(module),
        };
        return match loads.start(file, options) {
            Ok(ticket) => Answer::Later(ticket),
            Err(error) => Answer::Now(Outcome::Error(error)),
        };
    }
    Answer::Now(outcome(carry_out(registry, facts, command)))
}

/// Mounts a module that has arrived.
pub fn mount(registry: &mut Registry, options: &str, found: Result<Found, MountError>) -> Outcome {
    let mounted = found.and_then(|found| registry.mount_found(found, options));
    outcome(
        mounted
            .map_err(|error| {
                tracing::warn!("mount refused: {error}");
                ErrorReply::new(error.errno(), error.to_string())
            })
            .and_then(|mounted| value(&mounted)),
    )
}

fn outcome(result: Result<Value, ErrorReply>) -> Outcome {
    match result {
        Ok(value) => Outcome::Ok(value),
        Err(error) => Outcome::Error(error),
    }
}

fn carry_out(registry: &mut Registry, facts: &Facts, command: Command) -> Result<Value, ErrorReply> {
    match command {
        // Answered when its module has arrived.
        Command::Mount { .. } => Err(ErrorReply::new(Errno::EINVAL, "a mount is never answered at once")),
        Command::Ping => value(&version(registry, facts)),
        Command::Umount { name } => {
            value(&registry.unmount(&name).map_err(|e| ErrorReply::new(e.errno(), e.to_string()))?)
        }
        Command::Interfaces { name } => {
            let found = registry.interfaces(name.as_deref());
            match name {
                Some(name) if found.is_empty() => {
                    Err(ErrorReply::new(Errno::ENOENT, format!("{name}: no such interface")))
                }
                _ => value(&found),
            }
        }
        Command::Modules => value(&modules(registry, facts)),
        Command::Counters => value(&counters(registry, facts)),
        Command::Report { protocol, topic } => report(registry, &protocol, &topic),
        Command::LogLevel { level } => {
            if let Some(level) = level {
                logging::set_filter(&level).map_err(|text| ErrorReply::new(Errno::EINVAL, text))?;
                tracing::info!("log filter is now {level}");
            }
            Ok(json!(logging::filter()))
        }
    }
}

fn value(answer: &impl serde::Serialize) -> Result<Value, ErrorReply> {
    serde_json::to_value(answer).map_err(|e| ErrorReply::new(Errno::EIO, e.to_string()))
}

fn report(registry: &mut Registry, protocol: &str, topic: &str) -> Result<Value, ErrorReply> {
    let no_such = || ErrorReply::new(Errno::ENOENT, format!("{protocol}: no such protocol is mounted"));
    let mut text = registry.report(protocol, topic).ok_or_else(no_such)?.map_err(|e| {
        ErrorReply::new(Errno::from_raw(e.errno), format!("{protocol}: report {topic:?}: {}", e.text))
    })?;
    if text.len() > MAX_REPORT {
        text.truncate(text.floor_char_boundary(MAX_REPORT));
        text.push_str("\n(cut off here)\n");
    }
    Ok(json!(text))
}

fn version(registry: &Registry, facts: &Facts) -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: registry.identity().instance,
        pid: std::process::id(),
        abi: format!("{ABI_MAJOR}.{ABI_MINOR}"),
        protocol: PROTOCOL_VERSION,
        name: facts.program.clone(),
        uid: nix::unistd::Uid::effective().as_raw(),
        uptime_ns: registry.core().clock.now(),
    }
}

fn counters(registry: &Registry, facts: &Facts) -> Counters {
    let core = registry.core();
    let (pool, board) = (core.pool.borrow(), core.board.borrow());
    let (config, stats, flow) = (pool.config(), pool.stats(), board.flow());
    Counters {
        pool: PoolCounters {
            chunk_size: config.chunk_size.into(),
            chunks: config.chunks.into(),
            free: pool.free_chunks() as u64,
            exhausted: stats.exhausted,
            bad_descriptors: stats.bad_descriptors,
            reclaimed: stats.reclaimed,
        },
        event_loop: facts.event_loop.clone(),
        frames_delivered: flow.delivered,
        frames_routed: flow.routed,
        frames_sent: flow.sent,
        drops: board.all_drops().report(),
        helpers: core.helpers.borrow().len() as u64,
        clients: facts.clients,
    }
}

fn modules(registry: &Registry, facts: &Facts) -> Modules {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Modules {
        version: version(registry, facts),
        program: std::env::current_exe().unwrap_or_default(),
        code: kilobytes(&status, "VmExe:").unwrap_or_default(),
        data: kilobytes(&status, "VmData:").unwrap_or_default(),
        threads: threads(kilobytes(&status, "VmStk:")),
        builds: registry.builds(),
        failed: registry.failed(),
    }
}

/// A line such as `VmExe:      1234 kB` of `/proc/self/status`, in bytes.
fn kilobytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn threads(main_stack: Option<u64>) -> Vec<Thread> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut threads: Vec<_> = tasks
        .flatten()
        .filter_map(|task| {
            let tid: u32 = task.file_name().to_str()?.parse().ok()?;
            let stack = main_stack.filter(|_| tid == std::process::id());
            thread(tid, &fs::read_to_string(task.path().join("stat")).ok()?, stack)
        })
        .collect();
    threads.sort_by_key(|thread| thread.tid);
    threads
}

/// Reads `/proc/PID/task/TID/stat`: `tid (name) state …`; the name may contain anything.
fn thread(tid: u32, stat: &str, stack_size: Option<u64>) -> Option<Thread> {
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<_> = tail.split_whitespace().collect();
    // Field 3 of the file is the first one here; the priority is field 18, the start of the stack 28.
    let state = fields.first()?.chars().next()?;
    let priority = fields.get(15)?.parse().ok()?;
    let start: u64 = fields.get(25).and_then(|field| field.parse().ok()).unwrap_or_default();
    // The stack grows down from its start to about where this function's variables are.
    let here = std::ptr::from_ref(&start) as u64;
    let stack_used = stack_size.and_then(|size| start.checked_sub(here).filter(|used| *used <= size));
    Some(Thread { tid, name, state, priority, stack_used, stack_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_whose_name_looks_like_fields_is_read_right() {
        let stat = "12 (a) R (b) S 1 12 12 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 1 0 555";
        let thread = thread(12, stat, None).unwrap();
        assert_eq!((thread.name.as_str(), thread.state, thread.priority), ("a) R (b", 'S', 20));
    }

    #[test]
    fn this_process_has_a_main_thread_and_sizes() {
        let pid = std::process::id();
        assert!(threads(None).iter().any(|thread| thread.tid == pid && thread.stack_used.is_none()));
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(kilobytes(&status, "VmExe:").is_some_and(|bytes| bytes > 0));
    }
}
