//! The statistics: one text for `/net/.qnetstats`, the tool `qnetstats` and the control command `report`.
//!
//! ```text
//! **** Qnet compiled on Nov 22 2026 at 05:26:36 running on alonzo.lab      the documented line
//!   txd ok …                                                               and the documented counters
//! this node, links, nodes (report/nodes.rs), programs, helpers, what was dropped and why
//! ```
//!
//! The documented `grep -e "ok" -e "bad"` prints the five counters and nothing else, so no other line of ours holds those
//! letters, not even inside a word.
//!
//! DEVIATION: QNX shows it as `/proc/qnetstats`; Linux lets nobody add to `/proc`. What stands below the documented lines is
//! ours, and meant for whoever looks after the network.

mod nodes;

use std::fmt::{self, Write};

use qnet_proto::{Config, Counters, LinkId};

use crate::{engine::Engine, helpers::Helpers, ports::Ports};

/// When this module was built: the date of its last commit, or `SOURCE_DATE_EPOCH`.
const COMPILED: &str = env!("QNET_COMPILED");

/// Letters that only the documented counters and names of nodes may hold.
const RESERVED: [&str; 2] = ["ok", "bad"];

/// Writes the whole report.
pub(crate) fn write(
    out: &mut dyn Write,
    engine: &Engine,
    ports: &Ports,
    helpers: &Helpers,
    now: u64,
) -> fmt::Result {
    let counters = engine.core().counters();
    writeln!(out, "**** Qnet compiled on {COMPILED} running on {}", full_name(engine.core().config()))?;
    documented(out, counters, ports)?;
    settings(out, engine.core().config(), ports)?;
    links(out, engine, ports)?;
    nodes::write(out, engine, ports)?;
    programs(out, engine)?;
    writeln!(out, "\nhelpers")?;
    for line in helpers.describe(now) {
        writeln!(out, "  {}", helper_line(&line))?;
    }
    totals(out, counters)?;
    dropped(out, counters, ports)
}

fn full_name(config: &Config) -> String {
    let dot = if config.domain.as_str().is_empty() { "" } else { "." };
    format!("{}{dot}{}", config.name, config.domain)
}

/// The five counters that QNX documents. Each frame is in exactly one of the last three.
fn documented(out: &mut dyn Write, c: &Counters, ports: &Ports) -> fmt::Result {
    let not_ours = c.rx_duplicate + c.rx_not_for_us + ports.strangers;
    let damaged = c.rx_malformed + ports.runts + c.rx_bad_crc + c.rx_no_crc + c.rx_unknown;
    let refused = c.rx_no_session + c.rx_no_room + c.rx_out_of_window;
    let rows = [
        ("txd ok", c.tx_frames.saturating_sub(ports.no_memory)),
        ("txd bad", ports.no_memory + c.tx_control_overflow),
        ("rxd ok", c.rx_frames + not_ours),
        ("rxd bad dr", damaged),
        ("rxd bad L4", refused),
    ];
    rows.iter().try_for_each(|(name, value)| writeln!(out, "  {name:<12} {value:>14}"))
}

/// What is said of a helper. A reason that holds the letters of the documented counters is left to the log.
fn helper_line(line: &str) -> String {
    let reserved = RESERVED.iter().any(|letters| line.contains(letters));
    match line.split_once(": not running").filter(|_| reserved) {
        Some((program, _)) => format!("{program}: not running, the log says why"),
        None => line.to_owned(),
    }
}

fn settings(out: &mut dyn Write, config: &Config, ports: &Ports) -> fmt::Result {
    let checksums = match (config.do_crc, config.enforce_crc) {
        (false, _) => "off",
        (true, false) => "on",
        (true, true) => "on, and demanded",
    };
    let announced = match config.auto_add {
        0 => "never".to_owned(),
        ticks => format!("every {}", nodes::span(config.tick.saturating_mul(ticks))),
    };
    writeln!(out, "\nthis node")?;
    writeln!(out, "  checksums {checksums}; packets up to {} bytes; announced {announced}", config.mtu_en)?;
    let vlan = ports.vlan().map_or_else(|| "none".to_owned(), |vlan| vlan.to_string());
    writeln!(out, "  VLAN {vlan}; {} packet buffers in reserve", ports.in_reserve())
}

fn links(out: &mut dyn Write, engine: &Engine, ports: &Ports) -> fmt::Result {
    writeln!(out, "\nlinks\n  name    address                   mtu  state")?;
    for (id, port) in ports.iter() {
        let up = engine.core().links().find(|(link, _)| *link == LinkId(id.0)).map(|(_, info)| info);
        let mtu = up.map_or_else(|| "-".to_owned(), |info| info.mtu.to_string());
        let addr = up.map_or_else(|| port.mac.to_string(), |info| info.addr.to_string());
        let state = if port.up { "up" } else { "no carrier" };
        writeln!(out, "  {:<7} {addr:<22} {mtu:>6}  {state}", port.name)?;
    }
    if let Some((name, own, unsent)) = ports.internet() {
        writeln!(
            out,
            "  {name:<7} {:<22} {:>6}  up, {unsent} packets not taken by the system",
            own.to_string(),
            "-"
        )?;
    }
    Ok(())
}

fn programs(out: &mut dyn Write, engine: &Engine) -> fmt::Result {
    let (clients, conns, calls) = engine.population();
    let totals = engine.totals();
    let rows = [
        (clients as u64, "programs at qnet.sock"),
        (conns as u64, "connections open"),
        (calls as u64, "calls under way"),
        (totals.calls, "calls in all"),
        (totals.local_connects, "connections by programs of this node in all"),
        (totals.remote_connects, "connections by other nodes in all"),
        (totals.remote_refused, "connections by other nodes refused"),
        (totals.name_clashes, "nodes that came under a name that was taken"),
        (totals.clients_dropped, "programs dropped: they did not read, or made no sense"),
    ];
    section(out, "programs", &rows)
}

fn totals(out: &mut dyn Write, c: &Counters) -> fmt::Result {
    let rows = [
        (c.tx_frames, "packets sent"),
        (c.tx_bytes, "bytes in them, headers not counted"),
        (c.tx_retransmits, "packets sent again"),
        (c.messages_out, "messages sent and acknowledged"),
        (c.rx_frames, "packets received and used"),
        (c.rx_bytes, "bytes in them, headers not counted"),
        (c.messages_in, "messages received"),
        (c.sessions_up, "sessions established"),
        (c.sessions_down, "sessions ended"),
        (c.tx_failures, "of these for want of acknowledgement"),
    ];
    section(out, "traffic", &rows)
}

fn dropped(out: &mut dyn Write, c: &Counters, ports: &Ports) -> fmt::Result {
    let rows = [
        (ports.no_memory, "not sent: io-pkt had no free buffer"),
        (c.tx_control_overflow, "not sent: too many announcements and set-ups at once"),
        (c.rx_malformed, "received damaged: lengths that cannot be"),
        (ports.runts, "received damaged: cut inside the header"),
        (c.rx_bad_crc, "received damaged: wrong checksum"),
        (c.rx_no_crc, "received without the checksum that is demanded"),
        (c.rx_unknown, "received: of a kind that nobody here uses"),
        (c.rx_no_session, "received: for a session that is over, or never was"),
        (c.rx_no_room, "received: no memory for one more incomplete message"),
        (c.rx_out_of_window, "received: outside of what the sender was allowed"),
        (c.rx_bad_message, "received whole: a message without sense"),
        (c.rx_duplicate, "received before: the sender did not hear our answer in time"),
        (c.rx_not_for_us, "received: discovery that concerns other nodes"),
        (ports.strangers, "received: for other stations, by an interface that hears everything"),
    ];
    section(out, "dropped, and why", &rows)
}

fn section(out: &mut dyn Write, heading: &str, rows: &[(u64, &str)]) -> fmt::Result {
    writeln!(out, "\n{heading}")?;
    rows.iter().try_for_each(|(value, name)| writeln!(out, "  {value:>12}  {name}"))
}

#[cfg(test)]
mod tests;
