//! A node with a session to an attacker who knows its ids, and with programs that use it meanwhile.

use qnet_proto::wire::Order;
use qnet_proto::wire::lwl4::{Header, Kind, Layer};
use qnet_proto::{Body, ClientId, ClientInfo, Command, Errno, Handle, Outlet, PulseInfo, Sink, VtidInfo};

use super::victim::{Script, Victim};

/// The attacker's id of the session.
const THEIRS: u32 = 4711;

const KINDS: [Kind; 8] = [
    Kind::User,
    Kind::User,
    Kind::Ack,
    Kind::Nack,
    Kind::TcsUp,
    Kind::TcsRemUp,
    Kind::TcsDown,
    Kind::TcsRemDown,
];
const LAYERS: [Layer; 4] = [Layer::Kif, Layer::Nr, Layer::Lr, Layer::Seq];

/// A sink that knows how much it was promised to get at most.
struct Bucket(u64);

impl Sink for Bucket {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.0, "{end} bytes for a buffer of {}", self.0);
    }
}

pub(super) fn run(data: &[u8]) {
    let mut victim = Victim::new(|config| config.auto_add = 0);
    let ours = set_up(&mut victim);
    victim.play(data, |victim, what, script| act(victim, ours, what, script));
}

/// Calls the node, as a node with our extensions would.
fn set_up(victim: &mut Victim) -> u32 {
    let init = Header { sconn: THEIRS, ..Header::new(Kind::TcsInit, Layer::Kif) };
    let block = b"qnX\x01\x1c\0\x01\0\x08\0\x99\0\0\0\0\0\0\0\x03\0\x04\0\x01\0\0\0\x05\0\x04\0\0\0\x10\0";
    let mut body = b"\0\0\x05\0\x06\0\x0d\0evil\0\0victim\0\0".to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend_from_slice(block);
    victim.hear(init, &body);
    victim.drain();
    let answer = victim.said.iter().find(|said| said.kind == Kind::TcsRemUp);
    let ours = answer.expect("a call is answered").sconn;
    victim.hear(Header { sconn: THEIRS, dconn: ours, ..Header::new(Kind::TcsUp, Layer::Kif) }, &[]);
    victim.drain();
    ours
}

fn act(victim: &mut Victim, ours: u32, what: u8, script: &mut Script<'_>) {
    match what % 16 {
        0..=4 => frame(victim, ours, script),
        5 => victim.hear_raw(script.bytes()),
        6 => victim.wait(script.u16().into()),
        7 => {
            let (server, nbytes) = (victim.server, script.u16().into());
            victim.command(Command::Accept { server, scoid: 1, nbytes });
        }
        8 => victim.command(Command::Reject { server: victim.server, errno: Errno::ESRCH }),
        9 => victim.command(Command::Read {
            rcv: victim.rcv,
            offset: script.u32() & 0xf_ffff,
            nbytes: script.u16().into(),
            into: Outlet::new(Bucket(0x11_0000)),
        }),
        10 => answer(victim, script),
        11 => victim.command(Command::ConnectDeath { server: victim.server }),
        12 => connect(victim, script),
        13 => send(victim, script),
        14 => client(victim, script),
        _ => victim.link(script.u8() & 1 == 0),
    }
}

/// A frame of the session; most fields are the attacker's choice.
fn frame(victim: &mut Victim, ours: u32, script: &mut Script<'_>) {
    let choice = script.u8();
    let mut header = Header {
        sconn: THEIRS,
        dconn: ours,
        ..Header::new(KINDS[usize::from(choice & 7)], LAYERS[usize::from(choice >> 3 & 3)])
    };
    if choice & 0x20 != 0 {
        header.order = Order::Big;
    }
    header.flags = script.u8() & 3;
    header.seq = script.u16().into();
    header.offset = u32::from(script.u16()) * if choice & 0x40 == 0 { 1 } else { 997 };
    victim.hear(header, script.bytes());
}

fn answer(victim: &mut Victim, script: &mut Script<'_>) {
    let rcv = victim.rcv;
    let len = usize::from(script.u16());
    let data = || Body::from(vec![7; len]);
    match script.u8() % 3 {
        0 => victim.command(Command::Reply { rcv, status: 0, data: data() }),
        1 => victim.command(Command::Write { rcv, offset: script.u16().into(), data: data() }),
        _ => victim.command(Command::Error { rcv, errno: Errno::EINTR }),
    }
}

fn connect(victim: &mut Victim, script: &mut Script<'_>) {
    victim.client = ClientId(script.u8().into());
    let (client, nd) = (victim.client, victim.nd);
    victim.command(Command::Connect { client, nd, pid: 1, chid: 1, cred: ClientInfo::default() });
}

fn send(victim: &mut Victim, script: &mut Script<'_>) {
    victim.handle = Handle(script.u8().into());
    let first = vec![3; usize::from(script.u16())];
    let srcmsglen = first.len() as u32 + u32::from(script.u16());
    let info = VtidInfo { srcmsglen, dstmsglen: script.u16().into(), tid: 1, ..VtidInfo::default() };
    let (client, handle) = (victim.client, victim.handle);
    victim.command(Command::Send {
        client,
        handle,
        info,
        first: first.into(),
        reply: Outlet::new(Bucket(info.dstmsglen.into())),
    });
}

fn client(victim: &mut Victim, script: &mut Script<'_>) {
    let (client, handle, (offset, nbytes)) = (victim.client, victim.handle, victim.asked);
    match script.u8() % 5 {
        0 => victim.command(Command::Unblock { handle }),
        1 => victim.command(Command::Disconnect { client }),
        2 => victim.command(Command::ReadData { handle, offset, data: vec![5; nbytes as usize].into() }),
        3 => victim.command(Command::ReadError { handle, offset, errno: Errno(14) }),
        _ => {
            let pulse = PulseInfo { code: 1, value: 2, priority: 3 };
            victim.command(Command::Pulse { client, info: VtidInfo::default(), pulse });
        }
    }
}
