//! The module behind its real tables: alone, and two nodes whose frames are handed over by the test.

use std::{
    io::{IoSlice, IoSliceMut},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use io_pkt_sdk::{
    Interface, Mac, abi,
    abi::info::READY_HELPER_EXIT,
    testing::{Bench, LogLine},
};
use qnet::{Channel, ChannelFlags, Connection, Netmgr, Received, SendOptions};
use qnet_ipc::{ToClient, ToServer, packet};

use super::*;

/// The interface of every node here.
const EN0: InterfaceId = InterfaceId(1);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct TestNode {
    bench: Bench,
    root: Root,
    directory: tempfile::TempDir,
}

impl TestNode {
    fn new(name: &str, last_octet: u8, options: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut all = vec![("host", name)];
        all.extend_from_slice(options);
        let mut bench = Bench::protocol::<Qnet>("qnet", directory.path().to_str().unwrap(), &all).unwrap();
        bench.start().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, last_octet]);
        let interface = Interface { mac, permanent_mac: mac, ..Interface::default() };
        bench.interface_event(EventKind::Arrived, EN0, "en0", &interface);
        let root = Root::at(directory.path()).unwrap();
        Self { bench, root, directory }
    }

    /// Hands what it sent since the last time to the other one.
    fn send_to(&mut self, other: &mut Self) {
        let frames: Vec<Vec<u8>> = self.bench.sent().into_iter().map(|(_, frame)| frame).collect();
        for frames in frames.chunks(32) {
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            other.bench.receive(EN0, &frames);
        }
    }

    fn log(&self) -> Vec<LogLine> {
        self.bench.host().log_lines()
    }
}

/// What a wire does to frames: seeded, so that a failure can be seen again.
struct Wire(u64);

impl Wire {
    fn chance(&mut self, one_in: u64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).is_multiple_of(one_in)
    }

    /// Loses, doubles and swaps frames on their way from `a` to `b`.
    fn carry(&mut self, a: &mut TestNode, b: &mut TestNode) {
        let mut frames: Vec<Vec<u8>> = a.bench.sent().into_iter().map(|(_, frame)| frame).collect();
        for at in 1..frames.len() {
            if self.chance(10) {
                frames.swap(at - 1, at);
            }
        }
        for frame in &frames {
            if !self.chance(20) {
                b.bench.receive(EN0, &[frame]);
            }
            if self.chance(20) {
                b.bench.receive(EN0, &[frame]);
            }
        }
    }
}

/// Runs both nodes over a bad wire until `done`.
fn run_badly(a: &mut TestNode, b: &mut TestNode, seed: u64, mut done: impl FnMut() -> bool) {
    let (end, mut wire) = (Instant::now() + PATIENCE, Wire(seed));
    while !done() {
        assert!(Instant::now() < end, "it did not happen within {PATIENCE:?}, seed {seed}");
        let busy = a.bench.poll() | b.bench.poll();
        wire.carry(a, b);
        wire.carry(b, a);
        if !busy {
            a.bench.host().wait(Duration::from_millis(1));
        }
    }
}

/// Runs both nodes until `done`.
fn run(a: &mut TestNode, b: &mut TestNode, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it did not happen within {PATIENCE:?}");
        let busy = a.bench.poll() | b.bench.poll();
        a.send_to(b);
        b.send_to(a);
        if !busy {
            a.bench.host().wait(Duration::from_millis(1));
        }
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

fn error(options: &[(&str, &str)]) -> Error {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    Bench::protocol::<Qnet>("qnet", root, options).map(drop).unwrap_err()
}

#[test]
fn wrong_options_are_refused_before_anything_is_done() {
    for (options, text) in [
        (&[("host", "a b")][..], "host=a b: "),
        (&[("mount", "net")], "mount=net: an absolute path"),
        (&[("mapany", "root")], "mapany=root: "),
        (&[("enforce_crc", "1")], "enforce_crc=1: "),
        (&[("vtag", "7"), ("bind", "udp"), ("resolve", "dns")], "vtag=7: "),
        (&[("export", "srv")], "export=srv: an absolute path"),
        (&[("export", "/usr"), ("export", "/usr/lib:ro")], "export=/usr/lib:ro: lies in export=/usr"),
    ] {
        let error = error(options);
        assert!(error.text().starts_with(text), "{error}");
        assert_eq!(error.errno(), libc::EINVAL);
    }
    let error = error(&[("mount", "/etc")]);
    assert_eq!(error.errno(), libc::ENOTEMPTY, "{error}");
}

#[test]
fn a_node_claims_its_ethertype_and_its_frames_are_whole() {
    let mut node = TestNode::new("alonzo.lab.example", 1, &[]);
    assert_eq!(node.bench.host().claims(), [0x8204]);
    let mut frames = node.bench.sent();
    node.bench.poll_until(|bench| {
        frames.extend(bench.sent());
        !frames.is_empty()
    });
    for (interface, frame) in frames {
        assert_eq!(interface, EN0);
        assert!(frame.len() >= 60, "{} bytes", frame.len());
        assert_eq!(frame[..6], [0xff; 6], "an announcement is for everybody");
        assert_eq!(frame[6..14], [2, 0, 0, 0, 0, 1, 0x82, 0x04]);
    }
    let report = node.bench.report("").unwrap();
    let first = report.lines().next().unwrap();
    assert!(first.starts_with("**** Qnet compiled on ") && first.ends_with(" running on alonzo.lab.example"));
    assert!(report.contains("  checksums off; packets up to 1500 bytes; announced every 30 s\n"), "{report}");
    assert!(report.contains("  en0     02:00:00:00:00:01        1500  up\n"), "{report}");
    assert_eq!(node.bench.report("more").unwrap_err().errno(), libc::ENOENT);
}

#[test]
fn it_says_who_is_let_in_and_leaves_other_interfaces_alone() {
    let mut node = TestNode::new("alonzo", 1, &[("bind", "en0")]);
    let interface = Interface { mac: Mac([2, 0, 0, 0, 9, 9]), ..Interface::default() };
    node.bench.interface_event(EventKind::Arrived, InterfaceId(2), "en1", &interface);
    node.bench.settle();
    let said: Vec<String> = node.log().into_iter().map(|line| line.text).collect();
    let sentences: Vec<&String> = said.iter().filter(|text| text.starts_with("Qnet uses")).collect();
    assert_eq!(sentences, ["Qnet uses en0: every caller from another node is nobody and may read"]);
    assert!(node.bench.sent().iter().all(|(interface, _)| *interface == EN0));
    assert!(!node.bench.report("").unwrap().contains("en1"));
}

#[test]
fn an_interface_of_bind_that_is_not_there_is_told_once() {
    let mut node = TestNode::new("alonzo", 1, &[("bind", "en0"), ("bind", "en9")]);
    node.bench.settle();
    let said: Vec<String> = node.log().into_iter().map(|line| line.text).collect();
    let told: Vec<&String> = said.iter().filter(|text| text.starts_with("bind=")).collect();
    assert_eq!(told, ["bind=en9: there is no such interface; Qnet uses it when it appears"]);
}

#[test]
fn the_helpers_are_started_and_the_server_again_after_a_crash() {
    // Where anybody may make a directory.
    let place = tempfile::tempdir().unwrap();
    let net = place.path().join("somewhere").display().to_string();
    let mut node = TestNode::new("alonzo", 1, &[("mount", &net)]);
    node.bench.settle();
    let root = node.directory.path().to_str().unwrap().to_owned();
    let helpers = node.bench.host().helpers();
    assert_eq!(helpers.len(), 2);
    assert_eq!((helpers[0].program.as_str(), helpers[0].fds), ("qnet-server", 1));
    assert_eq!(helpers[0].args, ["--root", &root]);
    assert_eq!(helpers[1].args, ["--root", &root, "--mount", &net, "--standby"]);

    let exit = |index: usize, status: i32| abi::PollEvent {
        token: helpers[index].token,
        ready: READY_HELPER_EXIT,
        value: status,
    };
    // A crash of the server (SIGKILL), and a network directory that was unmounted.
    node.bench.poll_with(&[exit(0, 9), exit(1, 0)]).unwrap();
    node.bench.poll_until(|bench| bench.host().helpers().len() == 3);
    assert_eq!(node.bench.host().helpers()[2].program, "qnet-server");
    let report = node.bench.report("").unwrap();
    assert!(report.contains("qnet-server: running"), "{report}");
    assert!(report.contains("qnet-netfs: not running: the directory was unmounted"), "{report}");
    assert!(node.log().iter().any(|line| line.text.contains("qnet-server ended (signal: 9")));
    node.bench.stop();
}

#[test]
fn a_file_system_that_cannot_serve_is_reported_once_and_not_tried_for_ever() {
    let mut node = TestNode::new("alonzo", 1, &[]);
    node.bench.settle();
    let token = node.bench.host().helpers()[1].token;
    let status = 1 << 8;
    node.bench.poll_with(&[abi::PollEvent { token, ready: READY_HELPER_EXIT, value: status }]).unwrap();
    node.bench.settle();
    assert_eq!(node.bench.host().helpers().len(), 2);
    let lines = node.log();
    let warnings = lines.iter().filter(|line| line.text.starts_with("Qnet runs without a network directory"));
    assert_eq!(warnings.count(), 1);
}

#[test]
fn messages_cross_between_channels_of_two_nodes() {
    let mut alonzo = TestNode::new("alonzo", 1, &[]);
    let mut joseph = TestNode::new("joseph", 2, &[("allow", "connect")]);
    let channel = Channel::create(&joseph.root, ChannelFlags::empty()).unwrap();
    let (pid, chid) = (channel.pid(), channel.chid());
    let question: Vec<u8> = (0..300_000u32).map(|i| (i * 7) as u8).collect();
    let answer: Vec<u8> = (0..1_000_000u32).map(|i| (i / 3) as u8).collect();
    let root = alonzo.root.clone();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let Received::Message(message) = channel.receive(soon()).unwrap() else { panic!("a pulse came") };
            let info = message.info().clone();
            assert_eq!(info.credentials.euid, 65534, "callers from elsewhere are nobody");
            assert_eq!((info.priority, info.coid), (17, 5));
            let mut whole = vec![0; question.len()];
            assert_eq!(message.read(0, &mut whole).unwrap(), question.len());
            assert!(whole == question);
            message.reply(11, &answer).unwrap();
            let Received::Message(message) = channel.receive(soon()).unwrap() else { panic!("a pulse came") };
            message.error(libc::ENOTEMPTY).unwrap();
            let Received::Pulse(pulse) = channel.receive(soon()).unwrap() else { panic!("a message came") };
            assert_eq!((pulse.code, pulse.value, pulse.priority), (7, 0xcafe, 3));
        });
        let client = scope.spawn(|| {
            let nd = Netmgr::attach(&root).unwrap().strtond("joseph").unwrap();
            let connection = Connection::attach(&root, nd, pid, chid).unwrap();
            let mut got = vec![0; answer.len()];
            let options = SendOptions { priority: 17, coid: 5, ..SendOptions::default() };
            let reply = connection
                .send_vectored(&[IoSlice::new(&question)], &mut [IoSliceMut::new(&mut got)], options)
                .unwrap();
            assert_eq!((reply.status, reply.len), (11, answer.len()));
            assert!(got == answer);
            let error = connection.send(b"again", &mut []).unwrap_err();
            assert_eq!(error.errno(), libc::ENOTEMPTY, "errno numbers differ on the wire");
            connection.pulse(3, 7, 0xcafe).unwrap();
            let names: Vec<String> =
                Netmgr::attach(&root).unwrap().nodes().unwrap().into_iter().map(|node| node.name).collect();
            assert_eq!(names, ["alonzo", "joseph"]);
        });
        run(&mut alonzo, &mut joseph, || client.is_finished() && server.is_finished());
        client.join().unwrap();
        server.join().unwrap();
    });
}

#[test]
fn callers_from_elsewhere_reach_no_channel_unless_allowed() {
    let mut alonzo = TestNode::new("alonzo", 1, &[]);
    let mut joseph = TestNode::new("joseph", 2, &[]);
    let channel = Channel::create(&joseph.root, ChannelFlags::empty()).unwrap();
    let (pid, chid) = (channel.pid(), channel.chid());
    let root = alonzo.root.clone();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let nd = Netmgr::attach(&root).unwrap().strtond("joseph").unwrap();
            for _ in 0..2 {
                let error = Connection::attach(&root, nd, pid, chid).unwrap_err();
                assert_eq!(error.errno(), libc::EPERM, "{error}");
            }
        });
        run(&mut alonzo, &mut joseph, || client.is_finished());
        client.join().unwrap();
    });
    let sentence = "node alonzo may not connect to channel";
    let told = joseph
        .log()
        .into_iter()
        .filter(|line| line.level == 2 && line.text.starts_with(sentence))
        .collect::<Vec<_>>();
    assert_eq!(told.len(), 1, "once: {told:?}");
    assert!(told[0].text.contains("allow=connect"));
}

#[test]
fn a_name_that_nobody_bears_is_not_found() {
    let mut alonzo = TestNode::new("alonzo", 1, &[]);
    let mut joseph = TestNode::new("joseph", 2, &[]);
    let root = alonzo.root.clone();
    thread::scope(|scope| {
        let client = scope.spawn(|| Netmgr::attach(&root).unwrap().strtond("eileen").unwrap_err().errno());
        run(&mut alonzo, &mut joseph, || client.is_finished());
        assert_eq!(client.join().unwrap(), libc::ENOENT);
    });
}

#[test]
fn a_program_finds_a_node_without_a_domain_by_the_name_it_is_listed_with() {
    let mut alonzo = TestNode::new("alonzo.lab.example", 1, &[]);
    let mut joseph = TestNode::new("joseph", 2, &[]);
    let root = alonzo.root.clone();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let netmgr = Netmgr::attach(&root).unwrap();
            let dotted = netmgr.strtond("joseph.").unwrap();
            assert_eq!(netmgr.strtond("joseph").unwrap(), dotted);
        });
        run(&mut alonzo, &mut joseph, || client.is_finished());
        client.join().unwrap();
    });
}

#[test]
fn the_death_of_a_server_reaches_its_remote_client() {
    let mut alonzo = TestNode::new("alonzo", 1, &[]);
    let mut joseph = TestNode::new("joseph", 2, &[("allow", "connect")]);
    let address = joseph.root.channel(std::process::id().cast_signed(), 2_000_001).unwrap();
    let listener = qnet_ipc::Listener::channel(&address).unwrap();
    let root = alonzo.root.clone();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let nd = Netmgr::attach(&root).unwrap().strtond("joseph").unwrap();
            let connection = Connection::attach(&root, nd, address.pid, address.chid).unwrap();
            let blocked = connection.send(b"x", &mut []).unwrap_err().errno();
            (blocked, connection.send(b"x", &mut []).unwrap_err().errno())
        });
        // A server that takes the message and dies with it.
        let mut server = None;
        let mut buffer = qnet_ipc::ReceiveBuffer::new();
        run(&mut alonzo, &mut joseph, || {
            if server.is_none() {
                server = listener.accept().unwrap().map(|(peer, _)| peer);
            }
            match server.as_mut().map(|peer| peer.recv(&mut buffer)) {
                Some(Ok(Some(ToServer::Connect(connect)))) => {
                    let conn = connect.conn;
                    let peer = server.as_mut().unwrap();
                    peer.send(&ToClient::ConnectOk { conn, scoid: 1, limit: 1 }).unwrap();
                }
                Some(Ok(Some(ToServer::Send(..)))) => server = None,
                _ => {}
            }
            client.is_finished()
        });
        let (blocked, later) = client.join().unwrap();
        assert_eq!(blocked, libc::ESRCH);
        // The news of the end travels behind the error.
        assert!([libc::ESRCH, libc::EBADF].contains(&later), "errno {later}");
    });
}

/// A server that answers every message with itself, backwards, until a pulse comes.
fn mirror(channel: &Channel) {
    while let Received::Message(message) = channel.receive(soon()).unwrap() {
        let mut whole = vec![0; message.info().srcmsglen as usize];
        message.read(0, &mut whole).unwrap();
        whole.reverse();
        message.reply(whole.len() as i64, &whole).unwrap();
    }
}

/// Sends `count` messages of odd lengths and checks each answer.
fn ask_mirror(connection: &Connection, count: u32) {
    for round in 0..count {
        let question: Vec<u8> = (0..round * 977 % 40_000).map(|i| (i ^ round) as u8).collect();
        let mut answer = vec![0; question.len()];
        let reply = connection.send(&question, &mut answer).unwrap();
        assert_eq!(reply.len, question.len());
        assert!(answer.iter().rev().eq(&question), "message {round} was damaged");
    }
}

#[test]
fn messages_arrive_whole_over_a_bad_wire() {
    let crc = ("do_crc", "1");
    let mut alonzo = TestNode::new("alonzo", 1, &[crc, ("periodic_ticks", "100"), ("tx_retries", "500")]);
    let mut joseph = TestNode::new(
        "joseph",
        2,
        &[crc, ("periodic_ticks", "100"), ("tx_retries", "500"), ("mapany", "off")],
    );
    let channel = Channel::create(&joseph.root, ChannelFlags::empty()).unwrap();
    let (pid, chid) = (channel.pid(), channel.chid());
    let root = alonzo.root.clone();
    thread::scope(|scope| {
        let server = scope.spawn(|| mirror(&channel));
        let client = scope.spawn(|| {
            let netmgr = Netmgr::attach(&root).unwrap();
            let connection = retry(|| Connection::attach(&root, netmgr.strtond("joseph")?, pid, chid));
            ask_mirror(&connection, 60);
            connection.pulse(1, 1, 1).unwrap();
        });
        run_badly(&mut alonzo, &mut joseph, 42, || client.is_finished() && server.is_finished());
        client.join().unwrap();
    });
}

/// A name or a session may need several attempts when its few frames are lost.
fn retry<T>(mut attempt: impl FnMut() -> Result<T, qnet::Error>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

#[test]
fn many_programs_speak_to_one_server_at_once() {
    let mut alonzo = TestNode::new("alonzo", 1, &[]);
    let mut joseph = TestNode::new("joseph", 2, &[("allow", "connect")]);
    let channel = Channel::create(&joseph.root, ChannelFlags::empty()).unwrap();
    let (pid, chid) = (channel.pid(), channel.chid());
    let root = alonzo.root.clone();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| mirror(&channel));
        }
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let nd = Netmgr::attach(&root).unwrap().strtond("joseph").unwrap();
                    ask_mirror(&Connection::attach(&root, nd, pid, chid).unwrap(), 20);
                })
            })
            .collect();
        run(&mut alonzo, &mut joseph, || clients.iter().all(|client| client.is_finished()));
        let local = Connection::attach(&joseph.root, 0, pid, chid).unwrap();
        (0..3).for_each(|_| local.pulse(1, 1, 1).unwrap());
    });
}

#[test]
fn senseless_frames_are_counted_and_do_no_harm() {
    let mut node = TestNode::new("alonzo", 1, &[]);
    node.bench.settle();
    let mut noise = Wire(7);
    for len in 0..400usize {
        let mut frame: Vec<u8> = (0..len).map(|i| if noise.chance(2) { i as u8 } else { 0xff }).collect();
        if len % 3 == 0 && len > 20 {
            frame[12..20].copy_from_slice(&[0x82, 0x04, 0, 0, 0x2a, 8, 3, 0]);
        }
        node.bench.receive(EN0, &[&frame]);
    }
    node.bench.settle();
    let report = node.bench.report("").unwrap();
    let malformed =
        report.lines().find(|line| line.ends_with("received damaged: lengths that cannot be")).unwrap();
    let count: u64 = malformed.split_whitespace().next().unwrap().parse().unwrap();
    assert!(count > 0, "{report}");
}

#[test]
fn a_drained_pool_costs_frames_and_nothing_else() {
    let mut node =
        TestNode::new("alonzo", 1, &[("periodic_ticks", "1000"), ("auto_add", "1"), ("max_tx_bufs", "0")]);
    node.bench.settle();
    let _announced = node.bench.sent();
    let lost = |bench: &mut Bench| {
        // Chunks that were sent are free again.
        bench.leave_chunks(0);
        let report = bench.report("").unwrap();
        !report.contains("           0  not sent: io-pkt had no free buffer")
    };
    node.bench.poll_until(lost);
    node.bench.leave_chunks(usize::MAX);
    node.bench.poll_until(|bench| !bench.sent().is_empty());
}

#[test]
fn a_program_that_sends_faster_than_the_wire_is_held_back_alone() {
    let mut alonzo = TestNode::new("alonzo", 1, &[("tx_retries", "1000")]);
    let mut joseph = TestNode::new("joseph", 2, &[("allow", "connect")]);
    let channel = Channel::create(&joseph.root, ChannelFlags::empty()).unwrap();
    let (pid, chid) = (channel.pid(), channel.chid());
    let root = alonzo.root.clone();
    let nd = thread::scope(|scope| {
        let client = scope.spawn(|| Netmgr::attach(&root).unwrap().strtond("joseph").unwrap());
        run(&mut alonzo, &mut joseph, || client.is_finished());
        client.join().unwrap()
    });
    let (mut flood, _) = qnet_ipc::connect_path(&root.qnet_socket()).unwrap();
    flood.set_queue_limit(1);
    flood
        .send(&ToServer::Connect(packet::Connect { conn: 1, nd, pid, chid, flags: 0, claim: None }))
        .unwrap();
    let mut buffer = qnet_ipc::ReceiveBuffer::new();
    let (open, end) = (AtomicBool::new(false), soon());
    thread::scope(|scope| {
        // While it receives, it takes in who comes.
        scope.spawn(|| {
            while !open.load(Ordering::Relaxed) && Some(Instant::now()) < end {
                let nothing = channel.receive(Some(Instant::now() + Duration::from_millis(20)));
                assert_eq!(nothing.unwrap_err().errno(), libc::ETIMEDOUT);
            }
        });
        run(&mut alonzo, &mut joseph, || {
            let answer = flood.recv(&mut buffer).unwrap();
            let is_open = matches!(answer, Some(ToClient::ConnectOk { .. }));
            open.fetch_or(is_open, Ordering::Relaxed) || is_open
        });
    });

    // From here on the wire is cut, and nothing leaves.
    let data = vec![1; qnet_ipc::MAX_DATA];
    let (mut taken, mut refused) = (0u32, 0);
    while refused < 100 {
        let head =
            packet::Send { txn: taken + 1, conn: 1, srcmsglen: data.len() as u32, ..packet::Send::default() };
        match flood.send(&ToServer::Send(head, &data)) {
            Ok(()) => (taken, refused) = (taken + 1, 0),
            Err(_) => refused += 1,
        }
        alonzo.bench.poll();
    }
    let mebibytes = (taken as usize * data.len()) >> 20;
    assert!((60..80).contains(&mebibytes), "{mebibytes} MiB were taken");

    thread::scope(|scope| {
        let other = scope.spawn(|| Netmgr::attach(&root).unwrap().nodes().unwrap().len());
        alonzo.bench.poll_until(|_| other.is_finished());
        assert_eq!(other.join().unwrap(), 2, "other programs are served");
    });
}
