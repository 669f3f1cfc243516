//! The nodes in the report: a line for each, and a block for each with which there is, or was, a session.
//!
//! A large network is cut after [`MOST`] bytes: the report has to fit into one answer of the control socket.

use std::fmt::{self, Write};
use std::time::Duration;

use qnet_proto::{Clash, Instant, LinkId, NodeState, NodeView, PathState, PathView, SessionEnd};

use crate::{engine::Engine, ports::Ports};

/// Longest text about nodes, in bytes.
const MOST: usize = 160 << 10;

pub(super) fn write(out: &mut dyn Write, engine: &Engine, ports: &Ports) -> fmt::Result {
    let now = engine.now();
    let name_of = |link: LinkId| ports.link_name(link);
    let mut text = String::new();
    let (mut left, mut all) = (0, 0_usize);
    for view in engine.core().nodes().filter(|view| view.state != NodeState::Local) {
        all += 1;
        if text.len() > MOST {
            left += 1;
            continue;
        }
        node(&mut text, &name_of, &view, now)?;
    }
    writeln!(out, "\nnodes: {all} beside this one")?;
    out.write_str(&text)?;
    if left > 0 {
        writeln!(out, "  {left} more are not shown")?;
    }
    Ok(())
}

fn node<'n>(
    out: &mut String,
    name_of: &impl Fn(LinkId) -> &'n str,
    view: &NodeView<'_>,
    now: Instant,
) -> fmt::Result {
    let dot = if view.domain.as_str().is_empty() { "" } else { "." };
    write!(out, "  {}{dot}{} (nd {}): ", view.name, view.domain, view.nd.0)?;
    match view.state {
        NodeState::Up => match view.up_since {
            Some(since) => write!(out, "up for {}", span(now.since(since)))?,
            None => write!(out, "up")?,
        },
        NodeState::Connecting => write!(out, "a session is being set up")?,
        NodeState::Local | NodeState::Known => write!(out, "known, no session")?,
    }
    if let Some(heard) = view.heard {
        write!(out, "; heard {} ago", span(now.since(heard)))?;
    }
    writeln!(out)?;
    if view.own_name != view.name {
        writeln!(out, "    calls itself     {}: that name was taken, give it another", view.own_name)?;
    }
    match view.clash {
        Some(Clash::Name) if view.own_name == view.name => {
            writeln!(
                out,
                "    clash            another node calls itself the same: give one of them another name"
            )?;
        }
        Some(Clash::Address) => {
            writeln!(
                out,
                "    clash            another node has its address on a link: give one of them another"
            )?;
        }
        _ => {}
    }
    // A node with a session tells of each of its paths below.
    if !view.addresses.is_empty() && view.paths.is_empty() {
        write!(out, "    reached by       ")?;
        for (i, (link, addr)) in view.addresses.iter().enumerate() {
            write!(out, "{}{} {addr}", if i > 0 { ", " } else { "" }, name_of(*link))?;
        }
        writeln!(out)?;
    }
    let talked = view.counters.sessions > 0 || view.counters.tx_frames > 0 || view.last_end.is_some();
    if talked { session(out, name_of, view, now) } else { Ok(()) }
}

/// A path of the session: where it leads, whether it works, how fast it is, how full.
fn path<'n>(out: &mut String, name_of: &impl Fn(LinkId) -> &'n str, path: &PathView) -> fmt::Result {
    let state = match path.state {
        PathState::Up => "works",
        PathState::Unproven => "not proven yet",
        PathState::Suspect => "does not answer at the moment",
        PathState::Down => "does not answer",
    };
    let rtt = path.rtt.map_or_else(|| "not measured".to_owned(), |rtt| format!("{} us", rtt.as_micros()));
    writeln!(
        out,
        "    path             {} {}: {state}; round trip {rtt}; {} of {} bytes under way; {} packets of messages sent, {} lost",
        name_of(path.link),
        path.addr,
        path.in_flight,
        path.window,
        path.sent,
        path.lost
    )
}

fn session<'n>(
    out: &mut String,
    name_of: &impl Fn(LinkId) -> &'n str,
    view: &NodeView<'_>,
    now: Instant,
) -> fmt::Result {
    let c = &view.counters;
    view.paths.iter().try_for_each(|one| path(out, name_of, one))?;
    if view.state == NodeState::Up {
        let rtt =
            view.rtt.map_or_else(|| "not measured yet".to_owned(), |rtt| format!("{} us", rtt.as_micros()));
        writeln!(out, "    round trip       {rtt}")?;
        writeln!(
            out,
            "    window           {} bytes; {} bytes and {} messages under way or waiting",
            view.window, view.in_flight, view.queued
        )?;
        match view.extended {
            Some(true) => writeln!(out, "    speaks           Qnet with selective acknowledgements")?,
            Some(false) => writeln!(out, "    speaks           Qnet as QNX does")?,
            None => {}
        }
    }
    // `qnetstats -w` reads these two lines.
    writeln!(
        out,
        "    sent             {} packets, {} of them again, {} bytes",
        c.tx_frames, c.tx_retransmits, c.tx_bytes
    )?;
    writeln!(
        out,
        "    received         {} packets, {} a second time, {} dropped, {} bytes",
        c.rx_frames, c.rx_duplicate, c.rx_dropped, c.rx_bytes
    )?;
    writeln!(out, "    messages         {} sent, {} received", c.messages_out, c.messages_in)?;
    writeln!(out, "    sessions         {}{}", c.sessions, ending(view.last_end, now))
}

/// How the last session ended.
fn ending(end: Option<SessionEnd>, now: Instant) -> String {
    let Some(SessionEnd { at, why }) = end else { return String::new() };
    let ago = span(now.since(at));
    match why {
        Some(why) => format!("; the last that ended: {why}, {ago} ago"),
        None => format!("; the last attempt failed: no answer to the set-up, {ago} ago"),
    }
}

/// A time in its two largest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests;
