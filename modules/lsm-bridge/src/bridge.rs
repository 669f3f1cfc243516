//! The bridge as a protocol: batches in, decisions from [`crate::switch`], batches out. Frames are never copied: a
//! forwarded frame's descriptor moves to the port's batch, a flooded one gets one more reference per further port.

use std::{
    fmt::{self, Write},
    hash::{BuildHasher, RandomState},
};

use io_pkt_sdk::{
    Args, Batch, Error, Host, InterfaceId, Opt, Protocol, Work,
    interface::{Event, EventKind},
};

use crate::{
    shares::Share,
    switch::{HEADER, Switch, Verdict},
    table::Table,
};

const SECOND: u64 = 1_000_000_000;
const DEFAULT_AGE: u64 = 300;
const DEFAULT_ENTRIES: u64 = 8192;

/// An interface that takes part.
#[derive(Debug)]
struct Port {
    id: InterfaceId,
    name: String,
    system_name: String,
    link_up: bool,
    /// Frames on their way out; empty between calls.
    out: Batch,
}

/// One bridge.
#[derive(Debug)]
pub struct Bridge {
    host: Host,
    /// Names from `ports=`; empty for all interfaces.
    wanted: Vec<String>,
    /// Keeps other bridges from them.
    _share: Share,
    ports: Vec<Port>,
    switch: Switch,
    /// Frames to be flooded; empty between calls.
    flood: Batch,
    age: u64,
    /// The operator was told what a card without `promiscuous` does to a bridge.
    hinted: bool,
    /// The operator was told which of `wanted` are not there.
    told_missing: bool,
}

impl Protocol for Bridge {
    const OPTIONS: &'static [Opt] = &[
        Opt::text("ports", "interfaces to join, separated by colons, as in ports=en0:en1 (default: all)"),
        Opt::number(
            "age",
            "seconds after which a silent address is forgotten, 0 for never (default 300)",
            0,
            1 << 24,
        ),
        Opt::number("entries", "addresses that are remembered (default 8192)", 4, 1 << 20),
    ];
    const PREFIX: &'static str = "bridge";

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let wanted = wanted_ports(args.text("ports"))?;
        let age = args.number("age").unwrap_or(DEFAULT_AGE);
        let entries = args.number("entries").unwrap_or(DEFAULT_ENTRIES) as usize;
        let secret = RandomState::new().hash_one(0_u8);
        let switch = Switch::new(Table::new(entries, age * SECOND, secret));
        let share = Share::take(host.name(), &wanted)?;
        let flood = host.batch();
        Ok(Self {
            host,
            wanted,
            _share: share,
            ports: Vec::new(),
            switch,
            flood,
            age,
            hinted: false,
            told_missing: false,
        })
    }

    fn start(&mut self) -> Result<(), Error> {
        self.host.claim_all()?;
        self.host.wake();
        Ok(())
    }

    fn poll(&mut self, _: &mut Work<'_>) -> Result<(), Error> {
        // The first time comes after the events of the interfaces that were there.
        if !std::mem::replace(&mut self.told_missing, true) {
            for name in self.missing() {
                tracing::info!("{name} is not there yet: it joins when it appears");
            }
        }
        Ok(())
    }

    fn receive(&mut self, interface: InterfaceId, frames: &mut Batch) -> Result<(), Error> {
        if !self.ports.iter().any(|port| port.id == interface) {
            return Ok(());
        }
        let now = self.host.now();
        let mut cursor = frames.cursor();
        while let Some(frame) = cursor.next() {
            let verdict = match frame.frame().first() {
                start if start.len() >= HEADER => self.switch.decide(now, interface.0, start),
                _ => {
                    let mut start = [0; HEADER];
                    let len = frame.frame().copy_to(&mut start);
                    self.switch.decide(now, interface.0, &start[..len])
                }
            };
            // A batch has room for all that came in another one. What is not moved goes back to the pool.
            match verdict {
                Verdict::To(to) => {
                    if let Some(port) = self.ports.iter_mut().find(|port| port.id.0 == to) {
                        frame.move_to(&mut port.out);
                    }
                }
                Verdict::Flood => {
                    frame.move_to(&mut self.flood);
                }
                Verdict::Drop(_) => {}
            }
        }
        drop(cursor);
        self.send_all(interface);
        Ok(())
    }

    fn interface_event(&mut self, event: &Event) -> Result<(), Error> {
        let known = self.ports.iter().any(|port| port.id == event.id);
        match event.kind {
            EventKind::Gone => self.remove(event.id),
            EventKind::Arrived | EventKind::Changed if known || self.wants(&event.name) => self.set(event),
            EventKind::Arrived | EventKind::Changed => {}
        }
        Ok(())
    }

    fn report(&mut self, topic: &str, out: &mut dyn Write) -> Result<(), Error> {
        let written = match topic {
            "" => self.report_ports(out).and_then(|()| self.report_counters(out)),
            "table" => self.report_table(out),
            other => {
                return Err(Error::new(
                    libc::ENOENT,
                    format!("the bridge has no report {other:?}; it has table, and one without a name"),
                ));
            }
        };
        written.map_err(|fmt::Error| Error::new(libc::ENOMEM, "no room for the report"))
    }
}

impl Bridge {
    /// Sends what the last batch from `from` left in the ports' batches.
    fn send_all(&mut self, from: InterfaceId) {
        let Self { host, ports, flood, switch, .. } = self;
        if !flood.is_empty() {
            let last = ports.iter().rposition(|port| port.id != from);
            for (at, port) in ports.iter_mut().enumerate().filter(|(_, port)| port.id != from) {
                // The last port takes the references that the batch came with.
                if Some(at) == last {
                    switch.counters.refused += send(host, port.id, flood);
                } else {
                    switch.counters.refused += send(host, port.id, &mut flood.share());
                }
            }
        }
        for port in ports.iter_mut().filter(|port| !port.out.is_empty()) {
            switch.counters.refused += send(host, port.id, &mut port.out);
        }
    }

    /// Ports that were asked for and are not there.
    fn missing(&self) -> impl Iterator<Item = &String> {
        self.wanted.iter().filter(|name| !self.ports.iter().any(|port| port.name == **name))
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == name)
    }

    /// Takes a port in, or its new data.
    fn set(&mut self, event: &Event) {
        self.switch.set_port(event.id.0, event.interface.mac.0);
        if let Some(port) = self.ports.iter_mut().find(|port| port.id == event.id) {
            if port.link_up && !event.interface.link_up {
                // The stations behind it will turn up behind another port if there is a way around.
                self.switch.forget(event.id.0);
            }
            port.link_up = event.interface.link_up;
            port.system_name.clone_from(&event.interface.system_name);
            return;
        }
        tracing::info!("{} ({}) joins", event.name, event.interface.system_name);
        if !event.interface.promiscuous && !std::mem::replace(&mut self.hinted, true) {
            tracing::info!(
                "{} is not promiscuous: a card that filters addresses keeps frames for other stations from the bridge \
                 (mount its driver with the option promiscuous)",
                event.name
            );
        }
        self.ports.push(Port {
            id: event.id,
            name: event.name.clone(),
            system_name: event.interface.system_name.clone(),
            link_up: event.interface.link_up,
            out: self.host.batch(),
        });
    }

    fn remove(&mut self, id: InterfaceId) {
        self.switch.remove_port(id.0);
        if let Some(at) = self.ports.iter().position(|port| port.id == id) {
            let port = self.ports.remove(at);
            tracing::info!("{} ({}) leaves", port.name, port.system_name);
        }
    }

    fn report_ports(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(
            out,
            "{}: {} ports, addresses kept for {}",
            self.host.name(),
            self.ports.len(),
            Age(self.age)
        )?;
        let rows = self.switch.table().rows(self.host.now());
        for port in &self.ports {
            let stations = rows.iter().filter(|row| row.port == port.id.0).count();
            let link = if port.link_up { "up" } else { "down" };
            writeln!(
                out,
                "  {:<8} {:<16} link {link:<4} {stations:>6} stations",
                port.name, port.system_name
            )?;
        }
        for name in self.missing() {
            writeln!(out, "  {name:<8} (not there yet)")?;
        }
        Ok(())
    }

    fn report_counters(&self, out: &mut dyn Write) -> fmt::Result {
        let counters = &self.switch.counters;
        let lines = [
            ("frames received", counters.received),
            ("forwarded to one port", counters.forwarded),
            ("flooded to all others", counters.flooded),
            ("refused by an interface", counters.refused),
            ("kept: station on the same side", counters.same_side),
            ("kept: for this node", counters.local),
            ("kept: for one link only", counters.one_link),
            ("kept: no other port", counters.no_port),
            ("dropped: too short", counters.short),
            ("dropped: impossible source", counters.bad_source),
            ("addresses learned", counters.learned),
            ("addresses moved", counters.moved),
            ("addresses pushed out", counters.evicted),
        ];
        for (name, value) in lines {
            writeln!(out, "  {name:<32} {value:>12}")?;
        }
        Ok(())
    }

    fn report_table(&self, out: &mut dyn Write) -> fmt::Result {
        let rows = self.switch.table().rows(self.host.now());
        writeln!(
            out,
            "{}: {} of {} addresses",
            self.host.name(),
            rows.len(),
            self.switch.table().capacity()
        )?;
        for row in rows {
            let port = self.ports.iter().find(|port| port.id.0 == row.port).map_or("?", |port| &port.name);
            writeln!(out, "  {}  {port:<8} idle {:>5} s", io_pkt_sdk::Mac(row.mac), row.idle / SECOND)?;
        }
        Ok(())
    }
}

/// An age in seconds for people.
struct Age(u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("ever") } else { write!(f, "{} s", self.0) }
    }
}

/// Sends a batch and returns how many of its pieces the host refused.
fn send(host: &Host, to: InterfaceId, batch: &mut Batch) -> u64 {
    let count = batch.len();
    (count - host.send(to, batch)) as u64
}

/// The names in `ports=`; at least two, each once.
fn wanted_ports(text: Option<&str>) -> Result<Vec<String>, Error> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let mut names: Vec<String> = Vec::new();
    for name in text.split(':') {
        if name.is_empty() || names.iter().any(|known| known == name) {
            return Err(bad_ports(text, "a name is empty or named twice"));
        }
        names.push(name.to_owned());
    }
    match names.as_slice() {
        [only] => {
            let other = if only == "en0" { "en1" } else { "en0" };
            let text = format!(
                "ports={only}: names one interface, and a bridge joins two or more: ports={only}:{other}"
            );
            Err(Error::new(libc::EINVAL, text))
        }
        _ => Ok(names),
    }
}

fn bad_ports(text: &str, why: &str) -> Error {
    Error::new(libc::EINVAL, format!("ports={text}: {why}; say for example ports=en0:en1"))
}

#[cfg(test)]
mod tests;
