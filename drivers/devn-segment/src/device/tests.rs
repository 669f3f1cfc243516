//! Ports of real segments in temporary directories, each on the SDK's test host.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use io_pkt_sdk::{Mac, testing::Bench};

use crate::Segment;

/// A directory name for a segment; the directory itself is made by the first port.
fn place() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("seg").to_str().expect("a plain path").to_owned();
    (dir, path)
}

fn port(path: &str, options: &[(&str, &str)]) -> Bench {
    let options = [&[("path", path)], options].concat();
    let mut bench = Bench::driver::<Segment>("en0", "/nonexistent", &options).expect("made");
    bench.start().expect("entered");
    bench
}

/// Lets all ports hear each other's greetings.
fn greet(ports: &mut [&mut Bench]) {
    while ports.iter_mut().fold(false, |any, port| port.poll() | any) {}
}

fn frame(to: Mac, mark: u32, len: usize) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend_from_slice(&mark.to_be_bytes());
    frame.extend((frame.len()..len).map(|at| at as u8));
    frame
}

fn mark(frame: &[u8]) -> u32 {
    frame[14..18].try_into().map_or(0, u32::from_be_bytes)
}

fn mac(bench: &Bench) -> Mac {
    bench.interface().expect("told").mac
}

fn fetch(port: &mut Bench, count: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    port.poll_until(|port| {
        frames.extend(port.received());
        frames.len() >= count
    });
    frames
}

#[test]
fn broadcast_reaches_everybody_else() {
    let (_dir, path) = place();
    let (mut a, mut b, mut c) = (port(&path, &[]), port(&path, &[]), port(&path, &[]));
    greet(&mut [&mut a, &mut b, &mut c]);
    let sent = frame(Mac::BROADCAST, 7, 1514);
    assert_eq!(a.transmit(&[&sent]), 1);
    assert_eq!(fetch(&mut b, 1), std::slice::from_ref(&sent));
    assert_eq!(fetch(&mut c, 1), [sent]);
    a.settle();
    assert!(a.received().is_empty(), "not to itself");
    assert_eq!(a.stats().tx_packets, 1, "counted once");
}

#[test]
fn a_port_hears_its_own_address_and_a_promiscuous_one_hears_all() {
    let (_dir, path) = place();
    let mut a = port(&path, &[]);
    let mut b = port(&path, &[("mac", "0200000000bb"), ("nomulticast", "1")]);
    let mut bridge = port(&path, &[("promiscuous", "1")]);
    assert_eq!(mac(&b), Mac([2, 0, 0, 0, 0, 0xbb]));
    greet(&mut [&mut a, &mut b, &mut bridge]);
    let group = Mac([0x33, 0x33, 0, 0, 0, 1]);
    let stranger = Mac([2, 9, 9, 9, 9, 9]);
    let frames =
        [frame(mac(&b), 1, 60), frame(group, 2, 60), frame(stranger, 3, 60), frame(Mac::BROADCAST, 4, 60)];
    let borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    assert_eq!(a.transmit(&borrowed), 4);
    assert_eq!(fetch(&mut bridge, 4), frames);
    assert_eq!(fetch(&mut b, 2), [frames[0].clone(), frames[3].clone()]);
}

#[test]
fn frames_sent_before_the_greeting_is_heard_are_not_lost_and_are_filtered_by_the_receiver() {
    let (_dir, path) = place();
    let mut a = port(&path, &[]);
    let mut b = port(&path, &[]);
    // Neither has polled yet: neither knows the other's address.
    let stranger = frame(Mac([2, 9, 9, 9, 9, 9]), 1, 60);
    let own = frame(mac(&a), 2, 60);
    assert_eq!(b.transmit(&[&stranger, &own]), 2);
    assert_eq!(fetch(&mut a, 1), [own]);
}

#[test]
fn any_port_may_die_and_a_new_one_may_come() {
    let (_dir, path) = place();
    let mut ports: Vec<Bench> = (0..4).map(|_| port(&path, &[])).collect();
    for round in 0..8 {
        // The first goes, however it is: the oldest one, the one that made the directory in round 0.
        drop(ports.remove(0));
        ports.push(port(&path, &[]));
        let mut borrowed: Vec<&mut Bench> = ports.iter_mut().collect();
        greet(&mut borrowed);
        for sender in 0..ports.len() {
            let sent = frame(Mac::BROADCAST, round * 10 + sender as u32, 64);
            assert_eq!(ports[sender].transmit(&[&sent]), 1);
            for receiver in (0..ports.len()).filter(|receiver| *receiver != sender) {
                assert_eq!(fetch(&mut ports[receiver], 1), std::slice::from_ref(&sent));
            }
        }
    }
    assert_eq!(fs::read_dir(&path).expect("there").count(), 4);
    drop(ports);
    assert!(!Path::new(&path).exists(), "the last one removes the directory");
}

#[test]
fn sockets_of_killed_ports_are_removed() {
    let (_dir, path) = place();
    let mut a = port(&path, &[]);
    // As a killed process leaves it: a socket file that nobody listens to any more.
    let dead = Path::new(&path).join("port-0000000000000000");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("bound"));
    assert!(dead.exists());
    let mut b = port(&path, &[]);
    assert!(!dead.exists());
    greet(&mut [&mut a, &mut b]);
    assert_eq!(b.transmit(&[&frame(Mac::BROADCAST, 1, 60)]), 1);
    assert_eq!(fetch(&mut a, 1).len(), 1);
}

#[test]
fn the_directory_is_private_and_foreign_ones_are_refused() {
    let (_dir, path) = place();
    let first = port(&path, &[]);
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o700);
    drop(first);
    fs::write(&path, "a file").expect("written");
    let mut bench = Bench::driver::<Segment>("en0", "/nonexistent", &[("path", &path)]).expect("made");
    let error = bench.start().expect_err("a file");
    assert_eq!(error.text(), format!("path={path} is not a directory"));
    for (options, text) in [
        (&[][..], "path= is missing: the directory where the ports meet, as in path=/tmp/seg"),
        (&[("path", "seg")][..], "path=seg does not begin with /; io-pkt has no working directory of yours"),
    ] {
        let error = Bench::driver::<Segment>("en0", "/nonexistent", options).expect_err("refused");
        assert_eq!(error.text(), text);
    }
}

#[test]
fn a_long_path_works_like_a_short_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("d".repeat(120));
    fs::create_dir(&deep).expect("made");
    let path = deep.join("seg").to_str().expect("a plain path").to_owned();
    let (mut a, mut b) = (port(&path, &[]), port(&path, &[]));
    greet(&mut [&mut a, &mut b]);
    assert_eq!(a.transmit(&[&frame(Mac::BROADCAST, 1, 60)]), 1);
    assert_eq!(fetch(&mut b, 1).len(), 1);
}

#[test]
fn jumbo_frames_pass_and_too_long_ones_are_counted() {
    let (_dir, path) = place();
    let (mut a, mut b) = (port(&path, &[("mtu", "9014")]), port(&path, &[("mtu", "9014")]));
    let mut plain = port(&path, &[]);
    greet(&mut [&mut a, &mut b, &mut plain]);
    let frames: Vec<Vec<u8>> =
        (0..50).map(|n| frame(Mac::BROADCAST, n, if n % 2 == 0 { 60 } else { 9014 - n as usize })).collect();
    let borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let mut got = Vec::new();
    let mut at = 0;
    while got.len() < frames.len() {
        at += a.transmit(&borrowed[at..]);
        a.poll();
        b.poll();
        plain.poll();
        got.extend(b.received());
    }
    assert!(got == frames);
    plain.settle();
    assert_eq!(
        (plain.received().len(), plain.stats().rx_dropped),
        (25, 25),
        "an ordinary port loses the long ones"
    );
    assert_eq!(plain.transmit(&[&frame(Mac::BROADCAST, 1, 3000)]), 1);
    assert_eq!(plain.stats().tx_dropped, 1);
}

/// The promise of the driver: a reader that keeps reading, however slowly, loses nothing.
#[test]
fn no_frame_is_lost_to_a_port_that_reads() {
    const FRAMES: u32 = 30_000;
    let (_dir, path) = place();
    let mut a = port(&path, &[]);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (path, (entered, wait)) = (path.clone(), mpsc::channel());
            let reader = thread::spawn(move || {
                let mut bench = port(&path, &[]);
                entered.send(()).expect("the test waits");
                let mut next = 0;
                bench.poll_until(|bench| {
                    for frame in bench.received() {
                        assert_eq!(mark(&frame), next, "lost or out of order");
                        next += 1;
                    }
                    next == FRAMES
                });
            });
            wait.recv().expect("it entered");
            reader
        })
        .collect();
    a.settle();
    let frames: Vec<Vec<u8>> =
        (0..FRAMES).map(|n| frame(Mac::BROADCAST, n, 60 + n as usize % 1400)).collect();
    let mut rest: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    a.poll_until(|a| {
        let sent = a.transmit(&rest[..rest.len().min(256)]);
        rest.drain(..sent);
        rest.is_empty()
    });
    a.poll_until(|_| readers.iter().all(thread::JoinHandle::is_finished));
    for reader in readers {
        reader.join().expect("it is content");
    }
    assert_eq!(a.stats().tx_dropped, 0);
}

#[test]
fn a_port_that_does_not_read_misses_frames_and_holds_nobody_up() {
    let (_dir, path) = place();
    let mut a = port(&path, &[]);
    let mut stuck = port(&path, &[]);
    let mut b = port(&path, &[]);
    greet(&mut [&mut a, &mut stuck, &mut b]);
    let mut got = 0;
    let mut sent = 0_u32;
    let end = Instant::now() + Duration::from_secs(20);
    // As many as would fill any socket ten times over.
    while got < 10_000 {
        assert!(Instant::now() < end, "{got} frames came through");
        if sent < 10_000 {
            sent += a.transmit(&[&frame(Mac::BROADCAST, sent, 1000)]) as u32;
        }
        a.poll();
        b.poll();
        got += b.received().len();
    }
    let stats = a.stats();
    assert!(stats.tx_dropped > 5000, "{} frames were counted as lost to the stuck port", stats.tx_dropped);
    // It reads again, and hears again.
    let before = fetch(&mut stuck, 1).len();
    assert!(before < 5000);
    a.poll_until(|a| {
        a.transmit(&[&frame(Mac::BROADCAST, u32::MAX, 60)]);
        stuck.poll();
        b.poll();
        b.received();
        stuck.received().iter().any(|frame| mark(frame) == u32::MAX)
    });
}

#[test]
fn an_empty_pool_costs_frames_and_the_port_goes_on() {
    for mtu in ["1514", "9014"] {
        let (_dir, path) = place();
        let mut a = port(&path, &[]);
        let mut b =
            Bench::driver::<Segment>("en0", "/nonexistent", &[("path", &path), ("mtu", mtu)]).expect("made");
        b.leave_chunks(0);
        b.start().expect("entered");
        greet(&mut [&mut a, &mut b]);
        let one = frame(Mac::BROADCAST, 1, 60);
        assert_eq!(a.transmit(&[one.as_slice(); 20]), 20);
        b.poll_until(|b| b.stats().rx_no_memory == 20);
        assert!(b.received().is_empty());
        b.leave_chunks(usize::MAX);
        assert_eq!(a.transmit(&[&one]), 1);
        assert_eq!(fetch(&mut b, 1), [one]);
    }
}

#[test]
fn strangers_at_the_socket_do_no_harm() {
    let (_dir, path) = place();
    let (mut a, mut b) = (port(&path, &[]), port(&path, &[]));
    greet(&mut [&mut a, &mut b]);
    let sockets = fs::read_dir(&path).expect("there").map(|entry| entry.expect("read").path());
    for socket in sockets {
        for words in [&b""[..], b"hello?", b"ioSG\x63\x00\x00\x00\x02\x00\x00\x00\x00\x01\x00\x00"] {
            let stranger = nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Unix,
                nix::sys::socket::SockType::SeqPacket,
                nix::sys::socket::SockFlag::empty(),
                None,
            )
            .expect("a socket");
            let address = nix::sys::socket::UnixAddr::new(&socket).expect("short enough");
            use std::os::fd::AsRawFd;
            nix::sys::socket::connect(stranger.as_raw_fd(), &address).expect("accepted");
            if !words.is_empty() {
                let flags = nix::sys::socket::MsgFlags::empty();
                nix::sys::socket::send(stranger.as_raw_fd(), words, flags).expect("sent");
            }
        }
    }
    greet(&mut [&mut a, &mut b]);
    let sent = frame(Mac::BROADCAST, 1, 60);
    assert_eq!(a.transmit(&[&sent]), 1);
    assert_eq!(fetch(&mut b, 1), [sent]);
}

#[test]
fn many_ports_enter_at_once_and_all_know_each_other() {
    const PORTS: u32 = 8;
    let (_dir, path) = place();
    let content = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..PORTS)
        .map(|number| {
            let (path, content) = (path.clone(), Arc::clone(&content));
            thread::spawn(move || {
                let mut bench = port(&path, &[]);
                let mut heard = 1 << number;
                // Everybody calls until all have heard all.
                bench.poll_until(|bench| {
                    bench.transmit(&[&frame(Mac::BROADCAST, number, 60)]);
                    let before = heard;
                    heard |= bench.received().iter().fold(0, |heard, frame| heard | 1 << mark(frame));
                    if heard != before && heard == (1 << PORTS) - 1 {
                        content.fetch_add(1, Ordering::SeqCst);
                    }
                    content.load(Ordering::SeqCst) == PORTS
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it heard everybody");
    }
}

#[test]
fn a_port_that_comes_again_has_its_address_again() {
    let (_dir, path) = place();
    let _other = port(&path, &[("mac", "020000000001")]);
    let first = port(&path, &[]);
    let before = mac(&first);
    drop(first);
    assert_eq!(mac(&port(&path, &[])), before);
}

#[test]
fn ports_that_would_have_one_address_get_two() {
    let (_dir, path) = place();
    // All of one node, one interface and one segment: as in containers made from one image.
    let ports: Vec<Bench> = (0..5).map(|_| port(&path, &[])).collect();
    let mut macs: Vec<Mac> = ports.iter().map(mac).collect();
    macs.sort();
    macs.dedup();
    assert_eq!(macs.len(), 5);
}

#[test]
fn an_address_that_was_asked_for_twice_is_told() {
    let (_dir, path) = place();
    let one = port(&path, &[("mac", "020000000007")]);
    let two = port(&path, &[("mac", "020000000007")]);
    assert_eq!(mac(&one), mac(&two));
    let said = |bench: &Bench| bench.host().log_lines().iter().any(|line| line.text.contains("reach both"));
    assert!(!said(&one) && said(&two));
}
