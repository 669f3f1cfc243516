//! The driver on real interfaces: veth pairs in network namespaces of the tests' own.
//!
//! Each test runs in a fresh namespace with the pair `va` – `vb`; a driver (or two) is mounted on them by the SDK's test
//! host. Where namespaces are forbidden the tests are reported as ignored, and with `CI=true` they fail.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use devn_packet::Packet;
use io_pkt_sdk::{
    Error,
    linux::LinkWatch,
    testing::{
        Bench,
        netns::{self, Netns, ip, run},
    },
};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("frames_cross_whole_in_every_mode", frames_cross_whole_in_every_mode),
    ("af_xdp_sends_whole_frames_in_order", af_xdp_sends_whole_frames_in_order),
    ("jumbo_frames_span_chunks", jumbo_frames_span_chunks),
    ("vlan_tags_are_put_back", vlan_tags_are_put_back),
    ("tcp_crosses_with_linux_default_offloads", tcp_crosses_with_linux_default_offloads),
    ("link_state_is_followed", link_state_is_followed),
    (
        "an_interface_that_vanishes_and_returns_is_followed",
        an_interface_that_vanishes_and_returns_is_followed,
    ),
    ("a_changed_payload_size_is_followed", a_changed_payload_size_is_followed),
    ("settings_are_put_back", settings_are_put_back),
    ("settings_are_put_back_after_a_crash", settings_are_put_back_after_a_crash),
    ("offload_keep_changes_nothing", offload_keep_changes_nothing),
    ("wrong_names_are_explained", wrong_names_are_explained),
    ("alternative_names_work", alternative_names_work),
    ("an_interface_is_mounted_once", an_interface_is_mounted_once),
    ("nomulticast_keeps_broadcast", nomulticast_keeps_broadcast),
    ("an_empty_pool_costs_frames_and_nothing_else", an_empty_pool_costs_frames_and_nothing_else),
    ("frames_that_nobody_fetches_are_counted", frames_that_nobody_fetches_are_counted),
    ("frames_too_long_for_the_interface_are_counted", frames_too_long_for_the_interface_are_counted),
    ("own_frames_do_not_come_back", own_frames_do_not_come_back),
    ("an_extra_address_is_told_and_heard", an_extra_address_is_told_and_heard),
    ("mounting_again_and_again_leaves_nothing_behind", mounting_again_and_again_leaves_nothing_behind),
];

fn main() {
    let arguments = Arguments::from_args();
    let hindrance =
        netns::prepare().err().or_else(|| (!netns::has("ip")).then(|| "no ip program".to_owned()));
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let trials = TESTS.iter().map(|(name, test)| {
        let xdp =
            || (name.starts_with("af_xdp") && !has_af_xdp()).then(|| "no AF_XDP in this kernel".to_owned());
        let why = hindrance.clone().or_else(xdp);
        let ignored = why.is_some() && !ci;
        let shown =
            why.as_ref().filter(|_| ignored).map_or((*name).to_owned(), |why| format!("{name} ({why})"));
        let test = *test;
        Trial::test(shown, move || match why {
            Some(why) => Err(Failed::from(why)),
            None => {
                test();
                Ok(())
            }
        })
        .with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// Whether the kernel knows the sockets of `send=xdp`.
fn has_af_xdp() -> bool {
    let protocols = fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    protocols.lines().any(|line| line.starts_with("XDP "))
}

/// A fresh namespace with the pair `va` – `vb`, both on.
fn pair() -> (Netns, tempfile::TempDir) {
    let netns = Netns::enter_fresh();
    run("sysctl", "-qw net.ipv6.conf.default.disable_ipv6=1");
    add_pair();
    (netns, tempfile::tempdir().expect("a root"))
}

fn add_pair() {
    ip("link add va type veth peer name vb");
    ip("link set va up");
    ip("link set vb up");
}

fn mount(root: &tempfile::TempDir, options: &[(&str, &str)]) -> Bench {
    let mut bench = make(root, options).expect("the options are right");
    bench.start().expect("the interface is there");
    bench
}

fn make(root: &tempfile::TempDir, options: &[(&str, &str)]) -> Result<Bench, Error> {
    Bench::driver::<Packet>("en0", root.path().to_str().expect("a plain path"), options)
}

fn refusal(root: &tempfile::TempDir, options: &[(&str, &str)]) -> Error {
    match make(root, options) {
        Err(error) => error,
        Ok(mut bench) => bench.start().expect_err("it must not start"),
    }
}

/// A broadcast frame of `len` bytes with an ethertype for experiments; `mark` makes it distinct.
fn frame(len: usize, mark: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, mark, 0x88, 0xb5]);
    frame.extend((frame.len()..len).map(|at| (at as u8) ^ mark));
    frame
}

/// Frames of the tests' own ethertype that arrive until `count` are there.
fn fetch(bench: &mut Bench, count: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    bench.poll_until(|bench| {
        frames.extend(bench.received().into_iter().filter(|frame| frame.get(12..14) == Some(&[0x88, 0xb5])));
        frames.len() >= count
    });
    frames
}

/// Says which frame differs, and not all of their bytes.
fn assert_same(got: &[Vec<u8>], wanted: &[Vec<u8>], mode: &str) {
    let lengths = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(got), lengths(wanted), "{mode}");
    assert_eq!(got.iter().zip(wanted).position(|(got, wanted)| got != wanted), None, "{mode}");
}

fn features(interface: &str) -> String {
    run("ethtool", &format!("-k {interface}"))
}

fn is_on(interface: &str, feature: &str) -> bool {
    features(interface).contains(&format!("{feature}: on"))
}

fn frames_cross_whole_in_every_mode() {
    for sender in ["mixed", "ring", "mmsg"] {
        for receiver in ["mixed", "ring", "mmsg"] {
            let (_netns, root) = pair();
            let mut a = mount(&root, &[("dev", "va"), ("mode", sender)]);
            let mut b = mount(&root, &[("dev", "vb"), ("mode", receiver)]);
            let lengths = [60, 61, 64, 590, 1513, 1514];
            let frames: Vec<Vec<u8>> = (0..192).map(|n| frame(lengths[n % lengths.len()], n as u8)).collect();
            let borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            assert_eq!(a.transmit(&borrowed), frames.len());
            assert_same(&fetch(&mut b, frames.len()), &frames, &format!("{sender} to {receiver}"));
            let (sent, got) = (a.stats(), b.stats());
            assert_eq!((sent.tx_packets, got.rx_dropped), (192, 0));
            assert!(got.rx_packets >= 192);
        }
    }
}

/// Many times what the kernel may have at a time.
fn af_xdp_sends_whole_frames_in_order() {
    for (mtu, longest) in [("1514", 1514), ("4014", 4014)] {
        let (_netns, root) = pair();
        let options = |dev| [("dev", dev), ("send", "xdp"), ("mtu", mtu)];
        let mut a = mount(&root, &options("va"));
        let mut b = mount(&root, &options("vb"));
        let lengths = [60, 61, 64, 590, longest - 1, longest];
        for round in 0..16_usize {
            let frames: Vec<_> =
                (0..128).map(|n| frame(lengths[n % lengths.len()], (round + n) as u8)).collect();
            let mut borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            a.poll_until(|bench| {
                let sent = bench.transmit(&borrowed);
                borrowed.drain(..sent);
                borrowed.is_empty()
            });
            assert_same(&fetch(&mut b, frames.len()), &frames, mtu);
        }
        assert_eq!((a.stats().tx_packets, a.stats().tx_dropped), (16 * 128, 0));
    }
}

fn jumbo_frames_span_chunks() {
    for (mode, send) in [("mixed", "mmsg"), ("ring", "mmsg"), ("mmsg", "xdp")] {
        let (_netns, root) = pair();
        // Too long for AF_XDP, which leaves them to messages.
        let options = |dev| [("dev", dev), ("mode", mode), ("send", send), ("mtu", "9014")];
        let mut a = mount(&root, &options("va"));
        let mut b = mount(&root, &options("vb"));
        assert_eq!(b.interface().map(|interface| interface.mtu), Some(9000));
        let frames: Vec<Vec<u8>> =
            (0..40).map(|n| frame(if n % 3 == 0 { 100 } else { 9014 - n }, n as u8)).collect();
        let borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        assert_eq!(a.transmit(&borrowed), frames.len());
        assert_same(&fetch(&mut b, frames.len()), &frames, mode);
    }
}

fn vlan_tags_are_put_back() {
    for mode in ["mixed", "ring", "mmsg"] {
        let (_netns, root) = pair();
        let mut a = mount(&root, &[("dev", "va"), ("mode", mode)]);
        let mut b = mount(&root, &[("dev", "vb"), ("mode", mode)]);
        let mut tagged = frame(1514, 1);
        tagged.splice(12..12, [0x81, 0x00, 0x60, 0x2a]);
        assert_eq!(a.transmit(&[&tagged]), 1);
        let mut got = Vec::new();
        b.poll_until(|bench| {
            got.extend(bench.received().into_iter().filter(|frame| frame.get(12..14) == Some(&[0x81, 0x00])));
            !got.is_empty()
        });
        assert_eq!(got, [tagged], "{mode}");
    }
}

/// Two real stacks with everything that veth offers them, joined by two drivers.
fn tcp_crosses_with_linux_default_offloads() {
    const BYTES: usize = 8 << 20;
    for mode in ["mixed", "ring", "mmsg"] {
        let (left, right) = (Netns::enter_fresh(), Netns::enter_fresh());
        let middle = Netns::enter_fresh();
        let root = tempfile::tempdir().expect("a root");
        for (inner, outer, netns, address) in
            [("va", "la", &left, "10.9.0.1"), ("vb", "lb", &right, "10.9.0.2")]
        {
            ip(&format!("link add {inner} type veth peer name {outer}"));
            ip(&format!("link set {inner} up"));
            ip(&format!("link set {outer} netns {}", netns.path()));
            netns.enter();
            ip(&format!("addr add {address}/24 dev {outer}"));
            ip(&format!("link set {outer} up"));
            assert!(is_on(outer, "tcp-segmentation-offload"), "veth's default changed");
            middle.enter();
        }
        let server = thread::spawn(move || {
            right.enter();
            let listener = TcpListener::bind("10.9.0.2:7000").expect("bound");
            let (mut stream, _) = listener.accept().expect("a client");
            let mut sum = (0_usize, 0_u64);
            let mut room = vec![0; 1 << 16];
            loop {
                let count = stream.read(&mut room).expect("data");
                if count == 0 {
                    break;
                }
                sum.1 = room[..count].iter().fold(sum.1, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
                sum.0 += count;
            }
            stream.write_all(&sum.1.to_le_bytes()).expect("answered");
            sum.0
        });
        let client = thread::spawn(move || {
            left.enter();
            let mut stream = TcpStream::connect("10.9.0.2:7000").expect("connected");
            let data: Vec<u8> = (0..BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            stream.write_all(&data).expect("sent");
            stream.shutdown(std::net::Shutdown::Write).expect("shut");
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).expect("an answer");
            let sum = data.iter().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
            assert_eq!(u64::from_le_bytes(answer), sum, "the data arrived changed");
        });
        let mut a = mount(&root, &[("dev", "va"), ("mode", mode)]);
        let mut b = mount(&root, &[("dev", "vb"), ("mode", mode)]);
        let mut longest = 0;
        a.poll_until(|a| {
            longest = longest.max(forward(a, &mut b)).max(forward(&mut b, a));
            client.is_finished()
        });
        client.join().expect("the client is content");
        assert_eq!(server.join().expect("the server is content"), BYTES);
        assert!(longest <= 1514, "a frame of {longest} bytes came through");
    }
}

/// Moves what one driver received to the other; returns the longest frame.
fn forward(from: &mut Bench, to: &mut Bench) -> usize {
    from.poll();
    let frames = from.received();
    for group in frames.chunks(32) {
        let borrowed: Vec<&[u8]> = group.iter().map(Vec::as_slice).collect();
        let sent = to.transmit(&borrowed);
        if sent < borrowed.len() {
            to.poll();
            to.transmit(&borrowed[sent..]);
        }
    }
    frames.iter().map(Vec::len).max().unwrap_or(0)
}

fn link_state_is_followed() {
    let (_netns, root) = pair();
    let mut a = mount(&root, &[("dev", "va")]);
    let up = |bench: &Bench| bench.interface().is_some_and(|interface| interface.link_up);
    assert!(up(&a));
    ip("link set vb down");
    a.poll_until(|bench| !up(bench));
    assert_eq!(a.transmit(&[&frame(60, 1), &frame(60, 2)]), 2, "taken, and dropped");
    let stats = a.stats();
    assert_eq!((stats.tx_packets, stats.tx_dropped, stats.tx_no_carrier), (0, 2, 2));
    ip("link set vb up");
    a.poll_until(up_again);
    let mut b = mount(&root, &[("dev", "vb")]);
    assert_eq!(a.transmit(&[&frame(60, 3)]), 1);
    assert_eq!(fetch(&mut b, 1), [frame(60, 3)]);
    ip("link set va down");
    a.poll_until(|bench| !up(bench));
    ip("link set va up");
    a.poll_until(up_again);
    b.settle();
    b.transmit(&[&frame(60, 4)]);
    assert_eq!(fetch(&mut a, 1), [frame(60, 4)]);
}

fn up_again(bench: &mut Bench) -> bool {
    bench.interface().is_some_and(|interface| interface.link_up)
}

fn an_interface_that_vanishes_and_returns_is_followed() {
    for mode in ["mixed", "ring", "mmsg"] {
        let (_netns, root) = pair();
        let mut a = mount(&root, &[("dev", "va"), ("mode", mode)]);
        let mac = a.interface().expect("told").mac;
        ip("link del va");
        a.poll_until(|bench| bench.interface().is_some_and(|interface| !interface.link_up));
        assert_eq!(a.interface().expect("told").mac, mac, "what was known still holds");
        assert_eq!(a.transmit(&[&frame(60, 1)]), 1);
        assert_eq!(a.stats().tx_no_carrier, 1);
        add_pair();
        a.poll_until(up_again);
        let mut b = mount(&root, &[("dev", "vb"), ("mode", mode)]);
        assert_eq!(a.transmit(&[&frame(60, 2)]), 1);
        assert_eq!(fetch(&mut b, 1), [frame(60, 2)]);
        b.transmit(&[&frame(60, 3)]);
        assert_eq!(fetch(&mut a, 1), [frame(60, 3)]);
        assert!(!is_on("va", "generic-receive-offload"), "the new one is set like the old one");
    }
}

fn a_changed_payload_size_is_followed() {
    let (_netns, root) = pair();
    let mut a = mount(&root, &[("dev", "va")]);
    let mut b = mount(&root, &[("dev", "vb")]);
    ip("link set va mtu 4000");
    ip("link set vb mtu 4000");
    for bench in [&mut a, &mut b] {
        bench.poll_until(|bench| bench.interface().is_some_and(|interface| interface.mtu == 4000));
    }
    let long = frame(4014, 1);
    assert_eq!(a.transmit(&[&long]), 1);
    assert_eq!(fetch(&mut b, 1), [long]);
}

fn settings_are_put_back() {
    let (_netns, root) = pair();
    ip("link set va down");
    run("ethtool", "-K va gro on");
    let before = features("va");
    let mut a = mount(&root, &[("dev", "va"), ("mtu", "2014")]);
    a.poll_until(up_again);
    for feature in
        ["tx-tcp-segmentation", "generic-segmentation-offload", "generic-receive-offload", "tx-checksumming"]
    {
        assert!(!is_on("va", feature), "{feature} is still on");
    }
    drop(a);
    assert_eq!(features("va"), before);
    let link = LinkWatch::open().and_then(|mut links| links.by_name("va")).expect("asked").expect("there");
    assert_eq!((link.mtu, link.is_up()), (1500, false));
    assert_eq!(fs::read_dir(root.path()).expect("the root").count(), 0, "nothing is left");
}

fn settings_are_put_back_after_a_crash() {
    let (_netns, root) = pair();
    let before = features("va");
    let a = mount(&root, &[("dev", "va"), ("mtu", "2014")]);
    let file = root.path().join("packet-va.undo");
    let noted = fs::read(&file).expect("the file is there while it is mounted");
    drop(a);
    // As a killed daemon leaves things: settings changed, the file there, nobody holding it.
    run("ethtool", "-K va tso off gso off tx off gro off");
    ip("link set va mtu 2000");
    fs::write(&file, noted).expect("written");
    let _other = mount(&root, &[("dev", "vb")]);
    assert_eq!(features("va"), before);
    let link = LinkWatch::open().and_then(|mut links| links.by_name("va")).expect("asked").expect("there");
    assert_eq!(link.mtu, 1500);
    assert!(!file.exists());
}

fn offload_keep_changes_nothing() {
    let (_netns, root) = pair();
    run("ethtool", "-K va gro on");
    let before = features("va");
    let _a = mount(&root, &[("dev", "va"), ("offload", "keep")]);
    assert_eq!(features("va"), before);
}

fn wrong_names_are_explained() {
    let (_netns, root) = pair();
    let error = refusal(&root, &[("dev", "eth9")]);
    assert_eq!(error.errno(), libc::ENODEV);
    assert_eq!(error.text(), "dev=eth9: no such interface; there are vb, va");
    assert!(refusal(&root, &[]).text().starts_with("dev= is missing: there are "));
    let error = refusal(&root, &[("dev", "lo")]);
    assert!(error.text().starts_with("dev=lo: lo does not carry Ethernet frames; there are "), "{error}");
    let error = refusal(&root, &[("dev", "va"), ("mac", "ffffffffffff")]);
    assert_eq!(error.text(), "mac=ff:ff:ff:ff:ff:ff is not the address of one station");
    let error = refusal(&root, &[("dev", "va"), ("mtu", "90000")]);
    assert!(error.text().starts_with("mtu=90000: cannot set it on va: "), "{error}");
    assert_eq!(fs::read_dir(root.path()).expect("the root").count(), 0, "nothing is left");
}

fn alternative_names_work() {
    let (_netns, root) = pair();
    ip("link property add dev va altname the-port-with-the-yellow-cable");
    let a = mount(&root, &[("dev", "the-port-with-the-yellow-cable")]);
    assert_eq!(a.interface().expect("told").system_name, "va");
    drop(a);
    let error = refusal(&root, &[("dev", "the-port")]);
    assert!(error.text().contains("va (also called the-port-with-the-yellow-cable)"), "{error}");
}

fn an_interface_is_mounted_once() {
    let (_netns, root) = pair();
    let a = mount(&root, &[("dev", "va")]);
    let error = refusal(&root, &[("dev", "va")]);
    assert_eq!((error.errno(), error.text()), (libc::EBUSY, "dev=va: the interface is mounted already"));
    drop(a);
    mount(&root, &[("dev", "va")]);
}

fn nomulticast_keeps_broadcast() {
    for mode in ["mixed", "ring", "mmsg"] {
        let (_netns, root) = pair();
        let mut a = mount(&root, &[("dev", "va")]);
        let mut b = mount(&root, &[("dev", "vb"), ("mode", mode), ("nomulticast", "1")]);
        assert!(!b.interface().expect("told").multicast);
        let mut group = frame(60, 1);
        group[..6].copy_from_slice(&[0x01, 0, 0x5e, 0, 0, 1]);
        assert_eq!(a.transmit(&[&group, &frame(60, 2), &group, &frame(60, 3)]), 4);
        assert_eq!(fetch(&mut b, 2), [frame(60, 2), frame(60, 3)]);
    }
}

fn an_empty_pool_costs_frames_and_nothing_else() {
    for mode in ["mixed", "ring", "mmsg"] {
        let (_netns, root) = pair();
        let mut a = mount(&root, &[("dev", "va"), ("mode", mode)]);
        let mut b = make(&root, &[("dev", "vb"), ("mode", mode)]).expect("the options are right");
        b.leave_chunks(0);
        b.start().expect("the interface is there");
        let burst: Vec<Vec<u8>> = (0..200).map(|n| frame(60, n)).collect();
        let borrowed: Vec<&[u8]> = burst.iter().map(Vec::as_slice).collect();
        assert_eq!(a.transmit(&borrowed), 200);
        b.poll_until(|bench| bench.stats().rx_no_memory >= 200);
        assert_eq!(b.stats().rx_packets, 0);
        b.leave_chunks(usize::MAX);
        assert_eq!(a.transmit(&borrowed[..10]), 10);
        assert_same(&fetch(&mut b, 10), &burst[..10], mode);
    }
}

fn frames_that_nobody_fetches_are_counted() {
    let (_netns, root) = pair();
    let mut a = mount(&root, &[("dev", "va")]);
    let mut b = mount(&root, &[("dev", "vb"), ("receive", "64")]);
    let one = frame(60, 1);
    for _ in 0..50 {
        a.transmit(&[one.as_slice(); 32]);
    }
    let mut got = fetch(&mut b, 64).len();
    b.poll_until(|bench| {
        got += bench.received().len();
        !bench.poll()
    });
    let stats = b.stats();
    assert!(stats.rx_dropped > 0, "the ring has 64 slots or so");
    assert!(stats.rx_packets + stats.rx_dropped >= 1600, "{stats:?}");
}

fn frames_too_long_for_the_interface_are_counted() {
    for mode in ["mixed", "ring", "mmsg"] {
        let (_netns, root) = pair();
        let mut a = mount(&root, &[("dev", "va"), ("mode", mode)]);
        let mut b = mount(&root, &[("dev", "vb"), ("mode", mode)]);
        assert_eq!(a.transmit(&[&frame(3000, 1), &frame(60, 2), &frame(3000, 3)]), 3);
        assert_eq!(fetch(&mut b, 1), [frame(60, 2)]);
        let stats = a.stats();
        assert_eq!((stats.tx_packets, stats.tx_dropped), (1, 2));
    }
}

fn own_frames_do_not_come_back() {
    let (_netns, root) = pair();
    let mut a = mount(&root, &[("dev", "va")]);
    let mut b = mount(&root, &[("dev", "vb")]);
    assert_eq!(a.transmit(&[&frame(60, 1)]), 1);
    fetch(&mut b, 1);
    b.transmit(&[&frame(60, 2)]);
    assert_eq!(fetch(&mut a, 1), [frame(60, 2)], "and not its own");
}

fn an_extra_address_is_told_and_heard() {
    let (_netns, root) = pair();
    let own = LinkWatch::open().and_then(|mut links| links.by_name("va")).expect("asked").expect("there").mac;
    let a = mount(&root, &[("dev", "va"), ("mac", "0200000000aa")]);
    let told = a.interface().expect("told");
    assert_eq!(told.mac.to_string(), "02:00:00:00:00:aa");
    let now = LinkWatch::open().and_then(|mut links| links.by_name("va")).expect("asked").expect("there").mac;
    assert_eq!(now, own, "Linux keeps its own");
}

fn mounting_again_and_again_leaves_nothing_behind() {
    let (_netns, root) = pair();
    let descriptors = || fs::read_dir("/proc/self/fd").expect("proc").count();
    let mut b = mount(&root, &[("dev", "vb")]);
    drop(mount(&root, &[("dev", "va")]));
    let before = descriptors();
    for n in 0..30 {
        let mut a = mount(&root, &[("dev", "va"), ("mode", if n % 2 == 0 { "ring" } else { "mmsg" })]);
        assert_eq!(a.transmit(&[&frame(60, n)]), 1);
        fetch(&mut b, 1);
    }
    // Other tests run at the same time in this process and have descriptors of their own.
    assert!(descriptors() < before + 300);
}
