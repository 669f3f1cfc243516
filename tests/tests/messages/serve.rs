//! The server of the play: does what each message asks for, and knows what it heard.
//!
//! The first byte of a message says what; what it answers is described in `play.rs`.

use std::io::{IoSlice, IoSliceMut, Write};

use anyhow::Result;
use qnet::calls::{self, Received};
use qnet::{ChannelFlags, Event, Pulse};

/// Room for what is received at first.
const ROOM: usize = 128 * 1024;

/// What the server remembers between two messages.
#[derive(Default)]
struct Memory {
    pulses: Vec<Pulse>,
    /// Who is not answered before somebody wants to leave.
    silent: Option<i32>,
    /// Its client, known by it when it is not there any more.
    scoid: i32,
    /// It is not.
    gone: bool,
}

/// Makes the channels, says where they are, and serves until it is asked to end.
pub(crate) fn serve() -> Result<()> {
    let flags = ChannelFlags::UNBLOCK.union(ChannelFlags::DISCONNECT);
    let chid = calls::channel_create(flags.bits())?;
    let deaf = calls::channel_create(0)?;
    println!("serves {} {chid} {deaf}", std::process::id());
    std::io::stdout().flush()?;
    // The other channel receives, and never answers.
    std::thread::spawn(move || while calls::msg_receivev(deaf, &mut []).is_ok() {});
    let (mut memory, mut room) = (Memory::default(), vec![0; ROOM]);
    loop {
        match calls::msg_receivev(chid, &mut [IoSliceMut::new(&mut room)])? {
            Received::Pulse(pulse) => heard(&mut memory, pulse)?,
            Received::Message { rcvid, info } => {
                if info.msglen > 0 && room[0] == b'x' {
                    return Ok(());
                }
                let outcome = message(&mut memory, rcvid, &info, &mut room);
                if let Err(error) = outcome {
                    calls::msg_error(rcvid, error.errno())?;
                }
            }
        }
    }
}

fn heard(memory: &mut Memory, pulse: Pulse) -> Result<()> {
    match pulse.code {
        Pulse::UNBLOCK => {
            if memory.silent.take().is_some_and(|rcvid| u64::from(rcvid.cast_unsigned()) == pulse.value) {
                calls::msg_replyv(pulse.value as i32, 77, &[])?;
            }
        }
        Pulse::DISCONNECT => memory.gone |= pulse.scoid == memory.scoid,
        _ => memory.pulses.push(pulse),
    }
    Ok(())
}

fn reply(rcvid: i32, status: i64, data: &[u8]) -> Result<(), qnet::Error> {
    calls::msg_replyv(rcvid, status, &[IoSlice::new(data)])
}

fn message(
    memory: &mut Memory,
    rcvid: i32,
    info: &qnet::MessageInfo,
    room: &mut [u8],
) -> Result<(), qnet::Error> {
    let bytes = info.msglen.min(room.len());
    let number = |at: usize| i64::from_le_bytes(room[at..at + 8].try_into().unwrap_or_default());
    match room[..bytes].first() {
        None => reply(rcvid, 0, b"nothing"),
        Some(b'e') => {
            // All of it, wherever it still is.
            let mut whole = room[..bytes].to_vec();
            whole.resize(info.srcmsglen as usize, 0);
            let rest = calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut whole[bytes..])], bytes)?;
            reply(rcvid, (bytes + rest) as i64, &whole)
        }
        Some(b'f') => reply(rcvid, bytes as i64, b""),
        Some(b's') => reply(rcvid, number(8), b""),
        Some(b'E') => calls::msg_error(rcvid, libc_enoent()),
        Some(b'l') => crate::long::serve(rcvid, info),
        Some(b'w') => {
            calls::msg_writev(rcvid, &[IoSlice::new(b"middle")], 6)?;
            calls::msg_writev(rcvid, &[IoSlice::new(b"start-")], 0)?;
            calls::msg_replyv(rcvid, 1, &[])
        }
        Some(b'W') => {
            let count = calls::msg_writev(rcvid, &[IoSlice::new(&[b'W'; 100])], 0)?;
            calls::msg_replyv(rcvid, count as i64, &[])
        }
        Some(b'r') => {
            let mut parts = [[0; 10]; 3];
            let mut counts = [0; 3];
            for (at, (part, count)) in
                [100, 20_000, 29_995].into_iter().zip(parts.iter_mut().zip(&mut counts))
            {
                *count = calls::msg_readv(rcvid, &mut [IoSliceMut::new(part)], at)?;
            }
            reply(rcvid, counts.iter().sum::<usize>() as i64, parts.as_flattened())
        }
        Some(b'i') => {
            let text = format!(
                "msglen {} srcmsglen {} dstmsglen {} priority {} flags {:#x}, pid and coid as told: {}",
                info.msglen,
                info.srcmsglen,
                info.dstmsglen,
                info.priority,
                info.flags,
                (i64::from(info.pid), i64::from(info.coid)) == (number(8), number(16)),
            );
            reply(rcvid, 0, text.as_bytes())
        }
        Some(b'c') => {
            let who = calls::connect_client_info(info.scoid)?;
            let same = (i64::from(who.pid), who.pid, who.nd) == (number(8), info.pid, info.nd);
            let text = format!("{} {} {} {} {same}", info.nd, info.srcnd, who.euid, who.egid);
            reply(rcvid, i64::from(info.scoid), text.as_bytes())
        }
        Some(b'p') => {
            let said = |p: &Pulse| format!("{}:{:#x}:{}", p.code, p.value, p.priority);
            let text: Vec<String> = std::mem::take(&mut memory.pulses).iter().map(said).collect();
            reply(rcvid, 0, text.join(" ").as_bytes())
        }
        Some(b'd') => {
            let event = |value| Event::Pulse { coid: number(8) as i32, priority: 12, code: 9, value };
            calls::msg_deliver_event(rcvid, &event(number(16) as u64))?;
            calls::msg_replyv(rcvid, 0, &[])?;
            // Who has the answer already gets it, too.
            calls::msg_deliver_event(rcvid, &event(2))
        }
        Some(b'u') => {
            (memory.silent, memory.scoid, memory.gone) = (Some(rcvid), info.scoid, false);
            Ok(())
        }
        Some(b'q') => reply(rcvid, i64::from(memory.silent.is_some()), b""),
        Some(b'g') => reply(rcvid, i64::from(memory.gone), b""),
        Some(_) => calls::msg_error(rcvid, libc_enosys()),
    }
}

fn libc_enoent() -> i32 {
    nix::errno::Errno::ENOENT as i32
}

fn libc_enosys() -> i32 {
    nix::errno::Errno::ENOSYS as i32
}
