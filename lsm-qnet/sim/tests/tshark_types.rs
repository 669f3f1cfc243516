//! Every message type there is, from a little-endian sender and from a big-endian one: stock tshark
//! decodes each as what it is, none malformed, every checksum right, and to the same fields.
//!
//! `tshark.rs` judges whole exchanges; here are the types that an exchange does not contain, too.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qnet_proto::wire::Order;
use qnet_proto::wire::ack::{Ack, AckHead, Nack, Span, Whole};
use qnet_proto::wire::crc::Crc;
use qnet_proto::wire::kif::{ClientInfo, Connect, Kif, MsgSend, Xfer};
use qnet_proto::wire::lr::{Lr, LrKind, Party};
use qnet_proto::wire::lwl4::{ETHERTYPE, HEADER, Header, Kind, Layer};
use qnet_proto::wire::nr::Nr;
use qnet_proto::wire::tcs::Tcs;
use qnet_proto::wire::tlv::Extensions;
use qnet_proto::{PulseInfo, Sigevent, VtidInfo};
use qnet_sim::pcap::Pcap;

type Payload = Box<dyn Fn(Order) -> Vec<u8>>;

/// A packet: its kind and layer, what it carries, and the fields by which tshark must know it.
struct Sample {
    kind: Kind,
    layer: Layer,
    payload: Payload,
    fields: Vec<(&'static str, u32)>,
}

fn sample(kind: Kind, layer: Layer, payload: Payload, fields: &[(&'static str, u32)]) -> Sample {
    Sample { kind, layer, payload, fields: fields.to_vec() }
}

fn kif(message: Kif, data: &'static [u8], fields: &[(&'static str, u32)]) -> Sample {
    let payload = move |order| {
        let mut bytes = vec![0; 512];
        let len = message.emit(&mut bytes, order).unwrap();
        bytes.truncate(len);
        bytes.extend_from_slice(data);
        bytes
    };
    sample(Kind::User, Layer::Kif, Box::new(payload), fields)
}

const TYPE: &str = "qnet6.kif.type";

/// What programs say to each other; every type that has a known layout.
fn messages() -> Vec<Sample> {
    let cred = || {
        let groups = vec![100, 27];
        Some(ClientInfo { nd: 1, pid: 777, ruid: 1000, euid: 1001, groups, ..ClientInfo::default() })
    };
    let (server_pid, server_chid, client_id, client_pid) = (4242, 17, 0x9003, 777);
    let connect =
        move || Connect { version: 1, server_pid, server_chid, client_id, client_pid, cred: cred() };
    let info =
        VtidInfo { tid: 3, coid: 9, priority: 10, srcmsglen: 700, dstmsglen: 800, ..VtidInfo::default() };
    let (server_id, client_handle, scoid) = (0x2100, 0x6400, 21);
    let send = move |nbytes| MsgSend { server_id, client_handle, info, nbytes };
    let xfer = |status, nbytes| Xfer { status, handle: 0x6400, offset: 512, nbytes };
    let pulse = PulseInfo { code: -3, value: 0xcafe, priority: 12 };
    let wide = PulseInfo { value: 0x7f00_0000_cafe, ..pulse };
    let event = |value| Sigevent { notify: 1, id: 2, value, code: 4, priority: 5 };
    let signal =
        Kif::Signal { client_handle, pid: 4242, tid: 1, signo: 15, code: 0, value: 99, cred: cred() };
    vec![
        kif(
            Kif::Connect(connect()),
            b"",
            &[(TYPE, 0), ("qnet6.kif.connect.server_pid", 4242), ("qnet6.kif.client_info.cred.ngroups", 2)],
        ),
        kif(Kif::ConnectMsgSend(connect(), send(4)), b"\0\x20xy", &[("qnet6.kif.connect.client_pid", 777)]),
        kif(
            Kif::ConnectSuccess { version: 1, server_id, client_id, scoid, nbytes: 8192 },
            b"",
            &[(TYPE, 2), ("qnet6.kif.connect_success.nbytes", 8192)],
        ),
        kif(Kif::ConnectFail { version: 1, client_id, status: 3 }, b"", &[(TYPE, 3)]),
        kif(
            Kif::Unblock { server_id, client_handle, tid: 3 },
            b"",
            &[(TYPE, 4), ("qnet6.kif.unblock.tid", 3)],
        ),
        kif(Kif::MsgSend(send(4)), b"\0\x20xy", &[(TYPE, 5), ("qnet6.kif.msgsend.nbytes", 4)]),
        kif(
            Kif::MsgRead { msgread_handle: 7, client_handle, offset: 16, nbytes: 4096 },
            b"",
            &[(TYPE, 6), ("qnet6.kif.msgread.nbytes", 4096)],
        ),
        kif(Kif::MsgReadXfer(xfer(0, 4)), b"abcd", &[(TYPE, 7), ("qnet6.kif.msgwrite.nbytes", 4)]),
        kif(Kif::MsgWrite(xfer(0, 4)), b"abcd", &[(TYPE, 8), ("qnet6.kif.msgwrite.offset", 512)]),
        kif(Kif::MsgReply(xfer(6, 4)), b"abcd", &[(TYPE, 9), ("qnet6.kif.msgwrite.status", 6)]),
        kif(Kif::MsgError(xfer(14, 0)), b"", &[(TYPE, 10), ("qnet6.kif.msgwrite.status", 14)]),
        kif(Kif::Event { client_handle, sigevent: event(3) }, b"", &[(TYPE, 11)]),
        kif(Kif::Event { client_handle, sigevent: event(u64::MAX) }, b"", &[(TYPE, 11)]),
        kif(
            Kif::Pulse { server_id, client_handle, info, pulse, kind: (0, 0), scoid, cred: cred() },
            b"",
            &[(TYPE, 12), ("qnet6.kif.pulse.pulse.value", 0xcafe), ("qnet6.kif.pulse.priority", 12)],
        ),
        kif(
            Kif::Pulse { server_id, client_handle, info, pulse: wide, kind: (0, 0), scoid, cred: None },
            b"",
            &[(TYPE, 12), ("qnet6.kif.pulse.pulse.value", 0xcafe), ("qnet6.kif.pulse.priority", 12)],
        ),
        kif(Kif::ConnectPulse(connect(), wide), b"", &[(TYPE, 17)]),
        kif(signal, b"", &[(TYPE, 13), ("qnet6.kif.signal.value", 99)]),
        kif(Kif::Disconnect { server_id }, b"", &[(TYPE, 14)]),
        kif(Kif::ConnectDeath { client_id }, b"", &[(TYPE, 15)]),
        kif(Kif::MsgReadError(xfer(14, 0)), b"", &[(TYPE, 16), ("qnet6.kif.msgwrite.status", 14)]),
    ]
}

/// What nodes say to each other.
fn control() -> Vec<Sample> {
    const L4: &str = "qnet6.l4.type";
    let extensions = Extensions { incarnation: 7, version: 1, ..Extensions::default() };
    let lr = |kind, dst| {
        let src = Party { name: "alonzo", domain: "lab.example", mac: Some([2, 0, 0, 0, 0, 1]) };
        let payload = move |order| {
            let mut bytes = vec![0; 512];
            let len = Lr { kind, src, dst, extensions: Some(extensions) }.emit(&mut bytes, order).unwrap();
            bytes[..len].to_vec()
        };
        sample(Kind::Lres, Layer::Lr, Box::new(payload), &[(L4, 11)])
    };
    let to = Party { name: "joseph", domain: "lab.example", mac: Some([2, 0, 0, 0, 0, 2]) };
    let nr = |message: Nr<'static>, number| {
        let payload = move |order| {
            let mut bytes = vec![0; 128];
            let len = message.emit(&mut bytes, order).unwrap();
            bytes[..len].to_vec()
        };
        sample(Kind::User, Layer::Nr, Box::new(payload), &[(L4, 8), ("qnet6.nr.type", number)])
    };
    let tcs = |kind, number| {
        let body = matches!(kind, Kind::TcsInit | Kind::TcsRemUp | Kind::TcsUp);
        let payload = move |order| {
            let names = Tcs {
                src_name: "alonzo",
                src_domain: "lab.example",
                dst_name: "joseph",
                dst_domain: "lab.example",
                extensions: Some(extensions),
            };
            let mut bytes = vec![0; 256];
            let len = if body { names.emit(&mut bytes, order).unwrap() } else { 0 };
            bytes[..len].to_vec()
        };
        sample(kind, Layer::Kif, Box::new(payload), &[(L4, number)])
    };
    vec![
        lr(LrKind::Request, to),
        lr(LrKind::Reply, to),
        lr(LrKind::Reply, Party::default()),
        nr(Nr::PingRequest, 0),
        nr(Nr::PingAnswer, 1),
        nr(Nr::RemoteRequest { id: 5, name: "joseph.lab.example" }, 2),
        nr(Nr::RemoteAnswer { id: 5, nd: 3 }, 3),
        nr(Nr::RemoteError { id: 5, status: 2 }, 4),
        tcs(Kind::TcsInit, 1),
        tcs(Kind::TcsRemUp, 2),
        tcs(Kind::TcsUp, 3),
        tcs(Kind::TcsDown, 4),
        tcs(Kind::TcsRemDown, 5),
        sample(Kind::Ack, Layer::Kif, Box::new(|_| Vec::new()), &[(L4, 9)]),
        sample(Kind::Nack, Layer::Kif, Box::new(|_| Vec::new()), &[(L4, 10)]),
        sample(Kind::Ack, Layer::Seq, Box::new(ack), &[(L4, 9)]),
        sample(Kind::Nack, Layer::Seq, Box::new(nack), &[(L4, 10)]),
    ]
}

fn ack(order: Order) -> Vec<u8> {
    let head = AckHead { window: 1 << 20, base: 9, ..AckHead::default() };
    let whole = [Whole { first: 11, count: 2 }].into_iter();
    let partial = [Span { seq: 14, offset: 1462, length: 1462 }].into_iter();
    let mut bytes = vec![0; 256];
    let len = Ack::emit(&head, whole, partial, &mut bytes, order).unwrap();
    bytes[..len].to_vec()
}

fn nack(order: Order) -> Vec<u8> {
    let spans = [Span { seq: 14, offset: 0, length: 1462 }].into_iter();
    let mut bytes = vec![0; 256];
    let len = Nack::emit(1, 1 << 20, spans, &mut bytes, order).unwrap();
    bytes[..len].to_vec()
}

fn capture(samples: &[Sample], order: Order) -> Pcap {
    let mut pcap = Pcap::new();
    for (at, sample) in samples.iter().enumerate() {
        let payload = (sample.payload)(order);
        let mut header = Header { order, sconn: 0x11, dconn: 0x22, ..Header::new(sample.kind, sample.layer) };
        header.seq = 1 + at as u32;
        header.length = payload.len() as u32;
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(&payload);
        header.emit(&mut frame, Some(&Crc::new())).unwrap();
        let now = Duration::from_millis(at as u64);
        pcap.add(now, [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], ETHERTYPE, &frame);
    }
    pcap
}

fn tshark(file: &Path, args: &[&str]) -> String {
    let out = Command::new("tshark").arg("-r").arg(file).args(args).output().unwrap();
    assert!(out.status.success(), "tshark: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn number(text: &str) -> Option<u32> {
    // A message inside another shows both types; the first is meant.
    let text = text.split(',').next()?;
    text.strip_prefix("0x").map_or(text.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
}

fn judge(samples: &[Sample], order: Order, name: &str) {
    let pcap = capture(samples, order);
    let file = tempfile(name);
    std::fs::write(&file, pcap.bytes()).unwrap();
    for filter in ["!lwl4", "_ws.malformed || _ws.expert"] {
        assert_eq!(tshark(&file, &["-Y", filter, "-V"]), "", "{order:?} {filter}");
    }
    let text = tshark(&file, &["-V", "-O", "lwl4"]);
    let verdicts =
        |verdict: &str| text.lines().filter(|l| l.contains("crc32:") && l.contains(verdict)).count();
    assert_eq!((verdicts("[correct]"), verdicts("[incorrect")), (samples.len(), 0), "{order:?}");
    let expected = if order == Order::Big { 0xaa } else { 0x2a };
    let names: BTreeSet<&str> = samples.iter().flat_map(|s| s.fields.iter().map(|(name, _)| *name)).collect();
    let mut args = vec!["-T", "fields", "-e", "qnet6.l4.ver"];
    names.iter().for_each(|name| args.extend(["-e", name]));
    for (at, (line, sample)) in tshark(&file, &args).lines().zip(samples).enumerate() {
        let values: Vec<Option<u32>> = line.split('\t').map(number).collect();
        assert_eq!(values[0], Some(expected), "{order:?} frame {}: version", at + 1);
        let shown: BTreeMap<&str, Option<u32>> =
            names.iter().copied().zip(values[1..].iter().copied()).collect();
        for (field, want) in &sample.fields {
            let got = shown[field].map(|got| if *field == TYPE { got & 0x7f } else { got });
            assert_eq!(got, Some(*want), "{order:?} frame {}: {field}", at + 1);
        }
    }
    std::fs::remove_file(&file).unwrap();
}

fn tempfile(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("qnet-types-{}-{name}.pcap", std::process::id()))
}

#[test]
#[cfg_attr(no_tshark, ignore = "tshark is not installed")]
fn every_kif_message_decodes_alike_from_senders_of_both_byte_orders() {
    judge(&messages(), Order::Little, "kif-little");
    judge(&messages(), Order::Big, "kif-big");
}

#[test]
#[cfg_attr(no_tshark, ignore = "tshark is not installed")]
fn every_message_between_nodes_decodes_alike_from_senders_of_both_byte_orders() {
    judge(&control(), Order::Little, "nodes-little");
    judge(&control(), Order::Big, "nodes-big");
}
