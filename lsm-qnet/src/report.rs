//! The report for people: nodes, links, helpers, counters, as the control command `report` gives it.
//!
//! DEVIATION: QNX shows it as `/proc/qnetstats`; Linux lets nobody add to `/proc`.

use std::fmt::{self, Write};

use qnet_proto::{Counters, NodeState, NodeView};

use crate::{engine::Engine, helpers::Helpers, ports::Ports};

/// Writes the whole report.
pub(crate) fn write(
    out: &mut dyn Write,
    engine: &Engine,
    ports: &Ports,
    helpers: &Helpers,
    now: u64,
) -> fmt::Result {
    let config = engine.core().config();
    write!(out, "node {}", config.name)?;
    if !config.domain.as_str().is_empty() {
        write!(out, ".{}", config.domain)?;
    }
    writeln!(out, ", checksums {}", if config.do_crc { "on" } else { "off" })?;
    writeln!(out, "\nlinks")?;
    for (_, port) in ports.iter() {
        writeln!(out, "  {:<6} {} {}", port.name, port.mac, if port.up { "up" } else { "no carrier" })?;
    }
    writeln!(out, "\n  nd    state       rtt us  in flight     window  node")?;
    for view in engine.core().nodes() {
        node(out, ports, &view)?;
    }
    let (clients, conns, calls) = engine.population();
    let totals = engine.totals();
    writeln!(out, "\nprograms at qnet.sock {clients}, connections {conns}, calls under way {calls}")?;
    writeln!(
        out,
        "connections: {} local, {} from other nodes, {} refused; calls {}; name clashes {}; programs dropped {}",
        totals.local_connects,
        totals.remote_connects,
        totals.remote_refused,
        totals.calls,
        totals.name_clashes,
        totals.clients_dropped
    )?;
    for line in helpers.describe(now) {
        writeln!(out, "{line}")?;
    }
    counters(out, engine.core().counters(), ports)
}

fn node(out: &mut dyn Write, ports: &Ports, view: &NodeView<'_>) -> fmt::Result {
    let state = match view.state {
        NodeState::Local => "this node",
        NodeState::Known => "known",
        NodeState::Connecting => "connecting",
        NodeState::Up => "up",
    };
    let rtt = view.rtt.map_or_else(|| "-".to_owned(), |rtt| rtt.as_micros().to_string());
    write!(
        out,
        "  {:<5} {state:<10} {rtt:>7} {:>10} {:>10}  {}",
        view.nd.0, view.in_flight, view.window, view.name
    )?;
    if !view.domain.as_str().is_empty() {
        write!(out, ".{}", view.domain)?;
    }
    for (link, addr) in &view.addresses {
        let name = ports.iter().find(|(id, _)| id.0 == link.0).map_or("?", |(_, port)| port.name.as_str());
        write!(out, " {addr}@{name}")?;
    }
    writeln!(out)
}

fn counters(out: &mut dyn Write, counters: &Counters, ports: &Ports) -> fmt::Result {
    let rows: [(&str, u64); 22] = [
        ("frames sent", counters.tx_frames),
        ("payload bytes sent", counters.tx_bytes),
        ("frames sent again", counters.tx_retransmits),
        ("sessions lost for want of acknowledgement", counters.tx_failures),
        ("control frames dropped, queue full", counters.tx_control_overflow),
        ("frames lost, no free chunk", ports.no_memory),
        ("frames received", counters.rx_frames),
        ("payload bytes received", counters.rx_bytes),
        ("dropped: malformed", counters.rx_malformed + ports.runts),
        ("dropped: wrong checksum", counters.rx_bad_crc),
        ("dropped: no checksum", counters.rx_no_crc),
        ("dropped: no such session", counters.rx_no_session),
        ("dropped: received before", counters.rx_duplicate),
        ("dropped: no room", counters.rx_no_room),
        ("dropped: outside the window", counters.rx_out_of_window),
        ("dropped: for another node", counters.rx_not_for_us),
        ("dropped: unknown kind", counters.rx_unknown),
        ("dropped: senseless message", counters.rx_bad_message),
        ("messages received", counters.messages_in),
        ("messages acknowledged", counters.messages_out),
        ("sessions established", counters.sessions_up),
        ("sessions ended", counters.sessions_down),
    ];
    writeln!(out, "\ncounters")?;
    rows.iter().try_for_each(|(name, value)| writeln!(out, "  {value:>12}  {name}"))
}
