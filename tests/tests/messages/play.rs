//! The client of the play: every call between nodes once, written down. The text is the same wherever the server is.

use std::io::{IoSlice, IoSliceMut};
use std::time::Duration;

use anyhow::{Context, Result};
use qnet::calls::{self, Received, SIDE_CHANNEL, state};
use qnet::{Error, Event};

use crate::interrupt::interrupted;

/// Where the server is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) nd: u32,
    pub(crate) pid: i32,
    pub(crate) chid: i32,
    /// Its channel on which nobody is ever answered.
    pub(crate) deaf: i32,
}

impl Server {
    /// From the words of a command line: a node's name or `-` for this one, and three numbers.
    pub(crate) fn of(words: &[String]) -> Result<Self> {
        let [node, numbers @ ..] = words else { anyhow::bail!("no node") };
        let nd = if node == "-" { 0 } else { qnet::netmgr::strtond(node)?.0 };
        let number = |at: usize| numbers.get(at).context("a number")?.parse().context("a number");
        Ok(Self { nd, pid: number(0)?, chid: number(1)?, deaf: number(2)? })
    }

    pub(crate) fn attach(&self) -> Result<i32, Error> {
        calls::connect_attach(self.nd, self.pid, self.chid, SIDE_CHANNEL, 0)
    }
}

/// A message of an operation and its numbers, filled up to a length.
pub(crate) fn message(op: u8, numbers: &[i64], len: usize) -> Vec<u8> {
    let mut bytes = vec![op, 0, 0, 0, 0, 0, 0, 0];
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    let filled = bytes.len();
    bytes.extend((filled..len).map(|at| (at / 7) as u8));
    bytes
}

/// Sends, and says what came back.
pub(crate) fn send(coid: i32, message: &[u8], room: usize) -> (Result<i64, i32>, Vec<u8>) {
    let mut reply = vec![b'.'; room];
    let status = calls::msg_sendv(coid, &[IoSlice::new(message)], &mut [IoSliceMut::new(&mut reply)]);
    (status.map_err(|error| error.errno()), reply)
}

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).trim_end_matches('.').to_owned()
}

/// The whole play.
pub(crate) fn play(server: Server) -> Result<String> {
    let mut lines = Vec::new();
    let coid = server.attach()?;
    lengths(&mut lines, coid);
    answers(&mut lines, coid);
    what_is_told(&mut lines, &server, coid)?;
    pulses_and_events(&mut lines, &server, coid)?;
    leaving(&mut lines, &server, coid)?;
    let nowhere = calls::connect_attach(server.nd, server.pid, 999, SIDE_CHANNEL, 0);
    let outcome = nowhere.map_err(|error| error.errno()).and_then(|coid| send(coid, b"?", 0).0);
    lines.push(format!("a channel that is not there: {outcome:?}"));
    let last = send(coid, &message(b'x', &[], 8), 0).0;
    // Until the news of its end is here, more messages meet the same end.
    let then = (0..100_000).map(|_| send(coid, b"e", 1).0).find(|outcome| *outcome != last);
    lines.push(format!("the server ends before it answers: {last:?}, then {then:?}"));
    Ok(lines.join("\n"))
}

fn lengths(lines: &mut Vec<String>, coid: i32) {
    let nothing = send(coid, &[], 20);
    lines.push(format!("nothing: {:?} {}", nothing.0, text(&nothing.1)));
    for len in [8, 1000, 8191, 8192, 8193, 65_536, 65_537, 1_000_000] {
        let bytes = message(b'e', &[], len);
        let (status, reply) = send(coid, &bytes, len);
        lines.push(format!("echo of {len}: {status:?} {}", reply == bytes));
    }
    let bytes = message(b'e', &[], 30_000);
    let (status, reply) = send(coid, &bytes, 100);
    lines.push(format!("echo without room: {status:?} {}", reply == bytes[..100]));
    let (status, reply) = send(coid, &message(b'r', &[], 30_000), 40);
    lines.push(format!("read here and there: {status:?} {reply:?}"));
}

fn answers(lines: &mut Vec<String>, coid: i32) {
    for status in [0, -7, i64::from(i32::MAX), i64::from(i32::MIN)] {
        lines.push(format!("status {status}: {:?}", send(coid, &message(b's', &[status], 0), 0).0));
    }
    lines.push(format!("error: {:?}", send(coid, &message(b'E', &[], 0), 10)));
    lines.push(format!("unknown: {:?}", send(coid, b"?", 10).0));
    let (status, reply) = send(coid, &message(b'w', &[], 0), 20);
    lines.push(format!("written in pieces: {status:?} {}", text(&reply)));
    let (_, reply) = send(coid, &message(b'W', &[], 0), 10);
    lines.push(format!("written beyond the room: {}", text(&reply)));
}

fn what_is_told(lines: &mut Vec<String>, server: &Server, coid: i32) -> Result<()> {
    let numbers = [i64::from(std::process::id()), i64::from(coid)];
    calls::set_priority(14);
    let (status, reply) = send(coid, &message(b'i', &numbers, 500), 200);
    calls::set_priority(10);
    lines.push(format!("info: {status:?} {}", text(&reply)));
    // One process is one client, however many its connections.
    let other = server.attach()?;
    let scoids = [coid, other].map(|coid| send(coid, &message(b'c', &[0], 0), 100).0);
    lines.push(format!("one scoid: {}", scoids[0] == scoids[1] && scoids[0].is_ok()));
    calls::connect_detach(other)?;
    let info = calls::connect_server_info(0, coid)?;
    let same = (info.pid, info.chid, info.coid) == (server.pid, server.chid, coid);
    lines.push(format!("server info: {same} scoid {}", scoids[0].ok() == info.scoid.map(i64::from)));
    Ok(())
}

fn pulses_and_events(lines: &mut Vec<String>, server: &Server, coid: i32) -> Result<()> {
    for (code, value) in [(0, 0), (127, 0x1234_5678), (5, 0x7fff_0000_1234), (6, u64::MAX)] {
        calls::msg_send_pulse(coid, 20, code, value)?;
    }
    lines.push(format!("pulses: {}", text(&send(coid, &message(b'p', &[], 0), 200).1)));
    // A connection for one pulse, which is delivered though its sender leaves at once.
    let other = server.attach()?;
    calls::msg_send_pulse(other, 10, 3, 0x7fff_0000_0007)?;
    calls::connect_detach(other)?;
    let heard = || Some(text(&send(coid, &message(b'p', &[], 0), 200).1)).filter(|said| !said.is_empty());
    let alone = (0..100_000).find_map(|_| heard());
    lines.push(format!("a pulse alone: {alone:?}"));
    let chid = calls::channel_create(0)?;
    let own = calls::connect_attach(0, 0, chid, SIDE_CHANNEL, 0)?;
    let event = Event::Pulse { coid: own, priority: 12, code: 9, value: 0 };
    // Registered or not, a server that has it may deliver it.
    let registered = calls::msg_register_event(&event, coid).is_ok();
    let status = send(coid, &message(b'd', &[own.into(), 0x7fff_1234_5678], 0), 0).0;
    let pulse = || match calls::msg_receivev(chid, &mut [])? {
        Received::Pulse(pulse) => anyhow::Ok((pulse.code, pulse.value, pulse.priority)),
        Received::Message { .. } => anyhow::bail!("a message"),
    };
    lines.push(format!("events: {registered} {status:?} {:?} {:?}", pulse()?, pulse()?));
    Ok(())
}

fn leaving(lines: &mut Vec<String>, server: &Server, coid: i32) -> Result<()> {
    // However long it takes on a bad wire: a message that was not received yet does not wait for its server.
    let received = || send(coid, &message(b'q', &[], 0), 0).0 == Ok(1);
    let decided = interrupted(received, || send(coid, &message(b'u', &[], 0), 0).0)?;
    lines.push(format!("a server that decides: {decided:?}"));
    let deaf = calls::connect_attach(server.nd, server.pid, server.deaf, SIDE_CHANNEL, 0)?;
    calls::timer_timeout(state::SEND | state::REPLY, Duration::from_secs(1), Event::Unblock);
    lines.push(format!("a server that does not care: {:?}", send(deaf, b"hello", 0).0));
    calls::connect_detach(deaf)?;
    Ok(())
}
