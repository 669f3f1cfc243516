//! More than one packet thread (`-t N`).

use std::path::PathBuf;

use conformance::Workshop;
use ctl::{Client, UseState};
use nix::sys::signal::Signal;

use crate::support::{Daemon, Place, eventually, names};

fn sent(client: &mut Client, name: &str) -> u64 {
    client.interfaces(Some(name)).unwrap()[0].stats.tx_packets.unwrap_or(0)
}

fn thread_names(client: &mut Client) -> Vec<String> {
    let threads = client.modules().unwrap().threads;
    threads.into_iter().map(|thread| thread.name).filter(|name| name.starts_with("packet")).collect()
}

/// Open descriptors (`fd`) or threads (`task`).
fn entries(daemon: &Daemon, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap().count()
}

fn nothing_is_missing(client: &mut Client) {
    let pool = client.counters().unwrap().pool;
    assert_eq!((pool.free, pool.bad_descriptors, pool.reclaimed), (pool.chunks, 0, 0));
}

#[test]
fn frames_go_both_ways_between_two_packet_threads() {
    let place = Place::new();
    let daemon = place.start(&["-t", "2", "-dtemplate", "period=1", "-dtemplate", "period=1", "-pbridge"]);
    let mut client = daemon.client();
    assert_eq!(thread_names(&mut client), ["packet 1"]);
    for name in ["en0", "en1"] {
        eventually("it sends what the other made", || sent(&mut client, name) > 50);
    }
    for name in ["en1", "en0", "bridge0"] {
        client.umount(name).unwrap();
    }
    nothing_is_missing(&mut client);
    daemon.stop();
}

#[test]
fn frames_cross_a_node_with_a_thread_for_each_interface() {
    let (place, first, last) = (Place::new(), Place::new(), Place::new());
    let option = |name| format!("path={}", place.path(name).display());
    let (a, b) = (option("left"), option("right"));
    let middle =
        place.start(&["-t", "3", "-dtemplate", "-d", "segment", &a, "-d", "segment", &b, "-pbridge"]);
    let maker = first.start(&["-d", "template", "period=1", "-d", "segment", &a, "-pbridge"]);
    let taker = last.start(&["-t", "2", "-d", "segment", &b, "-dtemplate", "-pbridge"]);
    assert_eq!(thread_names(&mut middle.client()), ["packet 1", "packet 2"]);
    let mut client = taker.client();
    eventually("frames cross the node in the middle", || sent(&mut client, "en1") > 50);
    for daemon in [maker, middle, taker] {
        daemon.stop();
    }
}

#[test]
fn mounting_in_a_loop_under_traffic_leaks_nothing_with_threads() {
    let place = Place::new();
    let segment = place.path("segment").display().to_string();
    let daemon = place.start(&["-t", "3", "-d", "template", "period=1", "-dtemplate", "-pbridge"]);
    let mut client = daemon.client();
    let mut round = || {
        client.mount("segment", &format!("path={segment}"), None).unwrap();
        client.mount("template", "period=1", None).unwrap();
        client.umount("en2").unwrap();
        client.umount("en3").unwrap();
    };
    (0..10).for_each(|_| round());
    let (descriptors, threads) = (entries(&daemon, "fd"), entries(&daemon, "task"));
    (0..50).for_each(|_| round());
    assert_eq!((entries(&daemon, "fd"), entries(&daemon, "task")), (descriptors, threads));
    for name in ["en0", "en1", "bridge0"] {
        client.umount(name).unwrap();
    }
    nothing_is_missing(&mut client);
    daemon.stop();
}

#[test]
fn a_driver_that_fails_on_its_thread_fails_alone() {
    let place = Place::new();
    let dir = tempfile::tempdir().unwrap();
    let naughty: PathBuf = Workshop::new(dir.path()).unwrap().naughty().unwrap();
    // en0 is on the first loop, en1 and whatever comes as en2 are on the second and third.
    let daemon = place.start(&["-t", "3", "-d", "template", "period=1", "-dtemplate", "-pbridge"]);
    let mut client = daemon.client();
    let present = |client: &mut Client| client.interfaces(None).unwrap().len();
    for (mode, reason) in [
        ("poll-error", "the card fell out of slot 5"),
        ("poll-panic", "of nothing"),
        ("transmit-panic", "out of ink"),
        ("payload-panic", "panicked"),
        ("stats-panic", "cannot count"),
    ] {
        // It may fail before the answer to the mount is written.
        let mounted = client.mount(naughty.to_str().unwrap(), &format!("mode={mode}"), None);
        assert!(
            mounted.is_ok() || mounted.as_ref().is_err_and(|e| e.to_string().contains(reason)),
            "{mounted:?}"
        );
        eventually(mode, || present(&mut client) == 2);
        let failed = client.modules().unwrap().failed;
        let last = failed.last().unwrap();
        assert_eq!((last.name.as_str(), last.state), ("en2", UseState::Failed));
        assert!(last.reason.as_deref().is_some_and(|text| text.contains(reason)), "{mode}: {last:?}");
        assert_eq!(names(&place.root().devices()), ["bridge0", "en0", "en1"], "{mode}");
        let before = sent(&mut client, "en1");
        eventually("frames flow", || sent(&mut client, "en1") > before + 20);
    }
    for mode in ["create-error", "create-panic", "start-error", "start-panic"] {
        client.mount(naughty.to_str().unwrap(), &format!("mode={mode}"), None).unwrap_err();
        assert_eq!(present(&mut client), 2, "{mode}");
    }
    for mode in ["stop-panic", "drop-panic", "thread-panic", "hold"] {
        client.mount(naughty.to_str().unwrap(), &format!("mode={mode}"), None).unwrap();
        client.umount("en2").unwrap();
    }
    for name in ["en0", "en1", "bridge0"] {
        client.umount(name).unwrap();
    }
    let pool = client.counters().unwrap().pool;
    assert_eq!(pool.free, pool.chunks, "every chunk of a dead driver came back");
    daemon.stop();
}

#[test]
fn a_daemon_with_threads_ends_in_order_under_traffic_and_sleeps_without_it() {
    let place = Place::new();
    let args =
        ["-t", "4", "-d", "template", "period=1", "-dtemplate", "-dtemplate", "-dtemplate", "-pbridge"];
    let mut daemon = place.start(&args);
    let mut client = daemon.client();
    eventually("frames flow", || sent(&mut client, "en3") > 10);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success(), "{}", daemon.log());
    assert_eq!(names(&place.root().devices()), [] as [&str; 0]);
    // Nothing to carry: after a moment nobody uses the processor any more.
    let daemon = place.start(&["-t", "4", "-dtemplate", "-dtemplate", "-pbridge"]);
    let mut before = daemon.ticks();
    eventually("it sleeps", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = daemon.ticks();
        std::mem::replace(&mut before, now) == now
    });
    daemon.stop();
}

#[test]
fn impossible_numbers_of_threads_are_refused() {
    let place = Place::new();
    for number in ["0", "65", "many"] {
        let (status, text) = place.run(&["-t", number]);
        assert_eq!(status.code(), Some(2), "{text}");
        assert!(text.contains(number) && text.contains("-t"), "{text}");
    }
}
