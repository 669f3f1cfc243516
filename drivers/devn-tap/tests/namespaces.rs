//! The driver on real TAPs, in network namespaces of the tests' own, spoken to through Linux's UDP.
//!
//! Where namespaces or `/dev/net/tun` are missing the tests are reported as ignored, and with `CI=true` they fail.

use std::{fs::File, net::UdpSocket};

use devn_tap::TapDriver;
use io_pkt_sdk::{
    Error, Mac,
    linux::{Link, LinkWatch},
    testing::{
        Bench,
        netns::{self, Netns, ip, run},
    },
};
use libtest_mimic::{Arguments, Failed, Trial};

const TUN: &str = "/dev/net/tun";

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("linux_and_io_pkt_hear_each_other", linux_and_io_pkt_hear_each_other),
    ("a_tap_vanishes_with_its_mount", a_tap_vanishes_with_its_mount),
    ("a_persistent_tap_stays_and_is_attached_again", a_persistent_tap_stays_and_is_attached_again),
    ("settings_of_a_tap_that_was_there_are_put_back", settings_of_a_tap_that_was_there_are_put_back),
    ("the_kernel_chooses_a_name", the_kernel_chooses_a_name),
    ("the_linux_end_going_off_is_told_and_counted", the_linux_end_going_off_is_told_and_counted),
    ("wrong_names_are_explained", wrong_names_are_explained),
    ("the_payload_size_holds_for_both_ends", the_payload_size_holds_for_both_ends),
];

fn main() {
    let arguments = Arguments::from_args();
    let hindrance =
        netns::prepare().err().or_else(|| (!netns::has("ip")).then(|| "no ip program".to_owned())).or_else(
            || File::options().read(true).write(true).open(TUN).err().map(|error| format!("{TUN}: {error}")),
        );
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let trials = TESTS.iter().map(|(name, test)| {
        let why = hindrance.clone();
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

fn fresh() -> Netns {
    let netns = Netns::enter_fresh();
    run("sysctl", "-qw net.ipv6.conf.default.disable_ipv6=1");
    netns
}

fn make(options: &[(&str, &str)]) -> Result<Bench, Error> {
    Bench::driver::<TapDriver>("en0", "/nonexistent", options)
}

fn mount(options: &[(&str, &str)]) -> Bench {
    let mut bench = make(options).expect("the options are right");
    bench.start().expect("a TAP");
    bench
}

fn refusal(options: &[(&str, &str)]) -> Error {
    match make(options) {
        Err(error) => error,
        Ok(mut bench) => bench.start().expect_err("it must not start"),
    }
}

fn link(name: &str) -> Option<Link> {
    LinkWatch::open().and_then(|mut links| links.by_name(name)).expect("asked")
}

/// An Ethernet frame with an IPv4 datagram for 10.8.0.1 port 7000 from 10.8.0.2; UDP over IPv4 needs no checksum.
fn datagram(to: Mac, from: Mac, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 8, 0, 2, 10, 8, 0, 1];
    let total = (ip.len() + 8 + payload.len()) as u16;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp = [7001_u16, 7000, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
    [to.0.as_slice(), &from.0, &[0x08, 0x00], &ip, &udp, payload].concat()
}

fn linux_and_io_pkt_hear_each_other() {
    let _netns = fresh();
    let mut bench = mount(&[("dev", "tap0"), ("mac", "0200000000bb")]);
    ip("addr add 10.8.0.1/24 dev tap0");
    ip("neigh add 10.8.0.2 lladdr 02:00:00:00:00:bb dev tap0 nud permanent");
    let socket = UdpSocket::bind("10.8.0.1:7000").expect("bound");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("set");
    let linux = link("tap0").expect("it is there").mac;
    let ours = bench.interface().expect("told").mac;
    assert_ne!(linux, ours, "both ends are stations");

    assert_eq!(bench.transmit(&[&datagram(linux, ours, b"to Linux")]), 1);
    let mut room = [0; 64];
    let (len, from) = socket.recv_from(&mut room).expect("it arrives");
    assert_eq!((&room[..len], from.to_string()), (b"to Linux".as_slice(), "10.8.0.2:7001".to_owned()));

    socket.send_to(b"to io-pkt", "10.8.0.2:7001").expect("sent");
    let mut frame = Vec::new();
    bench.poll_until(|bench| {
        let frames = bench.received().into_iter();
        frame.extend(frames.filter(|frame| frame.ends_with(b"to io-pkt")).flatten());
        !frame.is_empty()
    });
    assert_eq!(frame[..12], [ours.0, linux.0].concat());
    assert_ne!(frame[40..42], [0, 0], "Linux summed it: a TAP has no offloads");
}

fn a_tap_vanishes_with_its_mount() {
    let _netns = fresh();
    let bench = mount(&[("dev", "tap7")]);
    let told = bench.interface().expect("told");
    assert_eq!((told.system_name.as_str(), told.mtu, told.link_up), ("tap7", 1500, true));
    assert!(told.mac.is_local() && !told.mac.is_group());
    drop(bench);
    assert_eq!(link("tap7"), None);
}

fn a_persistent_tap_stays_and_is_attached_again() {
    let _netns = fresh();
    drop(mount(&[("dev", "tap7"), ("persist", "1")]));
    let index = link("tap7").expect("it stays").index;
    let bench = mount(&[("dev", "tap7")]);
    assert_eq!(link("tap7").expect("it is there").index, index);
    drop(bench);
    assert!(link("tap7").is_some(), "it was there before");
}

fn settings_of_a_tap_that_was_there_are_put_back() {
    let _netns = fresh();
    ip("tuntap add mode tap name tap7");
    let bench = mount(&[("dev", "tap7"), ("mtu", "4014")]);
    let now = link("tap7").expect("it is there");
    assert_eq!((now.mtu, now.is_up()), (4000, true));
    drop(bench);
    let after = link("tap7").expect("it is there");
    assert_eq!((after.mtu, after.is_up()), (1500, false));
}

fn the_kernel_chooses_a_name() {
    let _netns = fresh();
    let (first, second) = (mount(&[]), mount(&[]));
    let name = |bench: &Bench| bench.interface().expect("told").system_name;
    assert_eq!((name(&first), name(&second)), ("tap0".to_owned(), "tap1".to_owned()));
}

fn the_linux_end_going_off_is_told_and_counted() {
    let _netns = fresh();
    let mut bench = mount(&[("dev", "tap0")]);
    ip("link set tap0 down");
    bench.poll_until(|bench| bench.interface().is_some_and(|told| !told.link_up));
    assert_eq!(bench.transmit(&[&[0; 60]]), 1);
    assert_eq!(bench.stats().tx_no_carrier, 1);
    ip("link set tap0 up");
    bench.poll_until(|bench| bench.interface().is_some_and(|told| told.link_up));
    ip("link del tap0");
    bench.poll_until(|bench| bench.interface().is_some_and(|told| !told.link_up));
    assert_eq!(bench.transmit(&[&[0; 60]]), 1, "taken, and dropped");
    assert_eq!(bench.stats().tx_no_carrier, 2);
}

fn wrong_names_are_explained() {
    let _netns = fresh();
    let error = refusal(&[("dev", "a-name-of-more-than-fifteen")]);
    assert!(error.text().contains("up to 15 letters"), "{error}");
    ip("link add va type veth peer name vb");
    let error = refusal(&[("dev", "va")]);
    assert_eq!(error.text(), "dev=va: there is an interface of this name that is no TAP");
    let _held = mount(&[("dev", "tap0")]);
    let error = refusal(&[("dev", "tap0")]);
    assert_eq!(error.text(), "dev=tap0: another program, or another mount, holds it");
    let error = refusal(&[("mac", "010000000000")]);
    assert_eq!(error.text(), "mac=01:00:00:00:00:00 is not the address of one station");
}

fn the_payload_size_holds_for_both_ends() {
    let _netns = fresh();
    let mut bench = mount(&[("dev", "tap0"), ("mtu", "9014"), ("mac", "0200000000bb")]);
    assert_eq!(bench.interface().expect("told").mtu, 9000);
    ip("addr add 10.8.0.1/24 dev tap0");
    ip("neigh add 10.8.0.2 lladdr 02:00:00:00:00:bb dev tap0 nud permanent");
    let socket = UdpSocket::bind("10.8.0.1:7000").expect("bound");
    let payload: Vec<u8> = (0..8000).map(|n| (n % 251) as u8).collect();
    socket.send_to(&payload, "10.8.0.2:7001").expect("sent");
    let mut long = Vec::new();
    bench.poll_until(|bench| {
        long.extend(bench.received().into_iter().filter(|frame| frame.len() > 8000));
        !long.is_empty()
    });
    assert!(long[0].ends_with(&payload));
}
