//! Stock tshark is the judge of the wire: every frame of simulated exchanges, from discovery to the
//! end of the session, decodes as Qnet, none is malformed, every checksum is right, and the fields
//! say what was sent.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use qnet_proto::{Body, ClientId, ClientInfo, Command, Errno, Event, Handle, Outlet, PulseInfo, VtidInfo};
use qnet_sim::apps::{Client, Ledger, Op, Server};
use qnet_sim::{Faults, HostId, Network};

fn tshark(file: &Path, args: &[&str]) -> String {
    let out = Process::new("tshark").arg("-r").arg(file).args(args).output().unwrap();
    assert!(out.status.success(), "tshark: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A capture on disk that goes away with its owner.
struct Capture(PathBuf);

impl Capture {
    fn of(net: &Network, name: &str) -> Capture {
        let pcap = net.captured().unwrap();
        let path = std::env::temp_dir().join(format!("qnet-sim-{}-{name}.pcap", std::process::id()));
        std::fs::write(&path, pcap.bytes()).unwrap();
        Capture(path)
    }

    fn fields(&self, filter: &str, names: &[&str]) -> Vec<Vec<String>> {
        let mut args = vec!["-Y", filter, "-T", "fields"];
        names.iter().for_each(|name| args.extend(["-e", name]));
        tshark(&self.0, &args).lines().map(|l| l.split('\t').map(str::to_owned).collect()).collect()
    }

    /// What holds for every capture of ours.
    fn assert_clean(&self, frames: usize) {
        assert_eq!(tshark(&self.0, &["-T", "fields", "-e", "frame.number"]).lines().count(), frames);
        for filter in ["!lwl4", "_ws.malformed || _ws.expert"] {
            assert_eq!(tshark(&self.0, &["-Y", filter, "-V"]), "", "{filter}");
        }
        let text = tshark(&self.0, &["-V", "-O", "lwl4"]);
        let whole = "qnet6.l4.flags.first == 1 && qnet6.l4.flags.last == 1";
        let whole = tshark(&self.0, &["-Y", whole]).lines().count();
        let crc =
            |verdict: &str| text.lines().filter(|l| l.contains("crc32:") && l.contains(verdict)).count();
        assert_eq!(crc("[incorrect"), 0);
        assert_eq!(crc("[correct]"), whole);
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Kept when the test failed, for the one who looks into it.
        if std::thread::panicking() {
            eprintln!("the capture is {}", self.0.display());
        } else {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

fn recorded(seed: u64, auto_add: bool) -> (Network, HostId, HostId) {
    let mut net = Network::new(seed);
    net.capture();
    net.configure(|config| config.do_crc = true);
    let quiet = move |config: &mut qnet_proto::Config| config.auto_add = if auto_add { 150 } else { 0 };
    let (a, b) = (net.add_with("alonzo", quiet), net.add_with("joseph", quiet));
    (net, a, b)
}

#[test]
#[cfg_attr(no_tshark, ignore = "tshark is not installed")]
fn a_busy_exchange_on_a_bad_wire_decodes_clean() {
    let (mut net, a, b) = recorded(1, true);
    net.set_faults(Faults { duplicate: 30, reorder: 100, ..Faults::lossy(100) });
    let ledger = Ledger::shared();
    net.install(b, Server::boxed(&ledger, 5));
    let mut plan: Vec<Op> = (0..4).map(|i| Op::Read { offset: i << 16, len: 1 << 16 }).collect();
    plan.extend([Op::Put { len: 300_000 }, Op::Pulse, Op::Echo { len: 0 }, Op::Echo { len: 20_000 }]);
    let (client, done) = Client::boxed(&ledger, "joseph", 5, plan, 3, true);
    net.install(a, client);
    assert!(net.run_while(Duration::from_secs(60), |_| *done.borrow()));
    net.run_for(Duration::from_secs(30));
    net.shut_down(a);
    net.run_for(Duration::from_secs(1));
    let frames = net.captured().unwrap().frames();
    assert!(frames > 600, "{frames} frames");
    Capture::of(&net, "busy").assert_clean(frames);
}

#[test]
#[cfg_attr(no_tshark, ignore = "tshark is not installed")]
fn a_plain_qnx_exchange_decodes_clean() {
    let (mut net, a, b) = recorded(2, true);
    let plain = |config: &mut qnet_proto::Config| config.extensions = false;
    let c = net.add_with("karl", plain);
    net.set_faults(Faults::lossy(100));
    let ledger = Ledger::shared();
    for server in [a, c] {
        net.install(server, Server::boxed(&ledger, 5));
    }
    let plan = vec![Op::Read { offset: 0, len: 1 << 16 }, Op::Put { len: 50_000 }, Op::Echo { len: 9000 }];
    let (client, done) = Client::boxed(&ledger, "karl", 5, plan, 2, true);
    net.install(b, client);
    assert!(net.run_while(Duration::from_secs(60), |_| *done.borrow()));
    Capture::of(&net, "plain").assert_clean(net.captured().unwrap().frames());
}

/// The whole life of a session, one thing after the other on a perfect wire.
fn life() -> Network {
    let (mut net, a, b) = recorded(3, false);
    let pause = Duration::from_millis(20);
    net.command(a, Command::Resolve { token: 1, name: "joseph".into() }).unwrap();
    net.run_for(pause);
    let nd = net.events(a).into_iter().find_map(|e| match e {
        Event::Resolved { nd, .. } => Some(nd),
        _ => None,
    });
    let client = ClientId(1);
    let cred =
        ClientInfo { pid: 777, ruid: 1000, euid: 1000, groups: vec![100, 27], ..ClientInfo::default() };
    net.command(a, Command::Connect { client, nd: nd.unwrap(), pid: 4242, chid: 1, cred }).unwrap();
    net.run_for(pause);
    let server = net.events(b).into_iter().find_map(|e| match e {
        Event::Connect { server, .. } => Some(server),
        _ => None,
    });
    let server = server.unwrap();
    net.command(b, Command::Accept { server, scoid: 21, nbytes: 16 }).unwrap();
    net.run_for(pause);
    // an _IO_READ of which the first 16 bytes travel at once
    let mut message = vec![0x01, 0x01, 16, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([7; 8]);
    let info =
        VtidInfo { tid: 1, coid: 3, priority: 10, srcmsglen: 24, dstmsglen: 64, ..VtidInfo::default() };
    let first = Body::from(&message[..]);
    net.command(a, Command::Send { client, handle: Handle(5), info, first, reply: Outlet::nowhere() })
        .unwrap();
    net.run_for(pause);
    let rcv = net.events(b).into_iter().find_map(|e| match e {
        Event::Message { rcv, .. } => Some(rcv),
        _ => None,
    });
    let rcv = rcv.unwrap();
    net.command(b, Command::Read { rcv, offset: 16, nbytes: 8, into: Outlet::nowhere() }).unwrap();
    net.run_for(pause);
    net.command(a, Command::ReadData { handle: Handle(5), offset: 16, data: Body::from(&message[16..]) })
        .unwrap();
    net.run_for(pause);
    net.command(b, Command::Write { rcv, offset: 2, data: vec![b'l', b'o'].into() }).unwrap();
    net.command(b, Command::Reply { rcv, status: 6, data: vec![b'h', b'e'].into() }).unwrap();
    net.run_for(pause);
    let info = VtidInfo { tid: 1, coid: 3, priority: 12, ..VtidInfo::default() };
    let pulse = PulseInfo { code: -3, value: 0xcafe, priority: 12 };
    net.command(a, Command::Pulse { client, info, pulse }).unwrap();
    net.run_for(pause);
    net.command(
        a,
        Command::Send { client, handle: Handle(6), info, first: Body::empty(), reply: Outlet::nowhere() },
    )
    .unwrap();
    net.command(a, Command::Unblock { handle: Handle(6) }).unwrap();
    net.run_for(pause);
    let rcv = net.events(b).into_iter().find_map(|e| match e {
        Event::Message { rcv, .. } => Some(rcv),
        _ => None,
    });
    net.command(b, Command::Error { rcv: rcv.unwrap(), errno: Errno::EINTR }).unwrap();
    net.run_for(pause);
    net.command(a, Command::Disconnect { client }).unwrap();
    net.run_for(Duration::from_secs(11)); // and a heartbeat
    net.shut_down(a);
    net.run_for(pause);
    net
}

#[test]
#[cfg_attr(no_tshark, ignore = "tshark is not installed")]
fn the_fields_of_a_whole_life_say_what_was_sent() {
    let net = life();
    let capture = Capture::of(&net, "life");
    capture.assert_clean(net.captured().unwrap().frames());

    let types = capture.fields("lwl4", &["qnet6.l4.type"]);
    let number =
        |text: &str| text.strip_prefix("0x").map_or(text.parse().ok(), |h| u32::from_str_radix(h, 16).ok());
    let types: Vec<u32> = types.iter().filter_map(|row| number(&row[0])).collect();
    // LR request and reply, INIT, REM_UP, UP; at the end DOWN and REM_DOWN
    assert_eq!(types[..5], [11, 11, 1, 2, 3]);
    assert_eq!(types[types.len() - 2..], [4, 5]);
    let lr = capture.fields("lr", &["qnet6.lr.src.name.name", "qnet6.lr.dst.name", "qnet6.lr.src.addr"]);
    assert_eq!(lr[0], ["alonzo", "joseph", "02:00:00:00:00:01"]);
    assert_eq!(lr[1], ["joseph", "alonzo", "02:00:00:00:00:02"]);
    let tcs = capture.fields("qos", &["qnet6.qos.src_name", "qnet6.qos.src_domain", "qnet6.qos.dst_name"]);
    assert_eq!(tcs[0], ["alonzo", "lab.example", "joseph"]);

    let kinds: Vec<u32> =
        capture.fields("kif", &["qnet6.kif.type"]).iter().filter_map(|row| number(&row[0])).collect();
    let kinds: Vec<u32> = kinds.into_iter().map(|kind| kind & 0x7f).collect();
    assert_eq!(kinds, [0, 2, 5, 6, 7, 8, 9, 12, 5, 4, 10, 14]);

    let c = "qnet6.kif.connect.";
    let connect = capture.fields(
        "qnet6.kif.connect.server_pid == 4242",
        &[
            &format!("{c}server_chid"),
            &format!("{c}client_pid"),
            "qnet6.kif.client_info.cred.euid",
            "qnet6.kif.client_info.cred.ngroups",
        ],
    );
    assert_eq!(connect[0].iter().filter_map(|t| number(t)).collect::<Vec<_>>(), [1, 777, 1000, 2]);
    let send = capture.fields(
        "qnet6.kif.msgsend.msg.type == 0x101",
        &[
            "qnet6.kif.msgsend.vtid_info.srcmsglen",
            "qnet6.kif.msgsend.nbytes",
            "qnet6.kif.msgsend.msg.read.nbytes",
        ],
    );
    assert_eq!(send[0], ["24", "16", "4096"]);
    let xfers = capture.fields(
        "qnet6.kif.msgwrite.nbytes",
        &[
            "qnet6.kif.msgwrite.status",
            "qnet6.kif.msgwrite.offset",
            "qnet6.kif.msgwrite.nbytes",
            "qnet6.kif.msgwrite.data",
        ],
    );
    assert_eq!(xfers[0][1..], ["16", "8", "0707070707070707"]);
    assert_eq!(xfers[1][1..], ["2", "2", "6c6f"]);
    assert_eq!(xfers[2], ["6", "0", "2", "6865"]);
    assert_eq!(xfers[3][0], "4");
    let pulse = capture
        .fields("qnet6.kif.pulse.priority", &["qnet6.kif.pulse.pulse.value", "qnet6.kif.pulse.priority"]);
    assert_eq!(pulse[0].iter().filter_map(|t| number(t)).collect::<Vec<_>>(), [0xcafe, 12]);
    assert_eq!(capture.fields("nr", &["qnet6.nr.type"]).len(), 2, "a heartbeat and its answer");
}
