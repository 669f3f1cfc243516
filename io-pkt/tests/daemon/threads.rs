//! More than one packet thread (`-t N`).

use std::{fs, path::Path};

use ctl::{Client, UseState};
use nix::sys::signal::Signal;

use crate::{
    isolation::{echo, naughty},
    support::{Daemon, Place, eventually, names},
};

fn sent(client: &mut Client, name: &str) -> u64 {
    client.interfaces(Some(name)).unwrap()[0].stats.tx_packets.unwrap_or(0)
}

fn thread_names(client: &mut Client) -> Vec<String> {
    let threads = client.modules().unwrap().threads;
    threads.into_iter().map(|thread| thread.name).filter(|name| name.starts_with("packet")).collect()
}

/// What the daemon has open, and its threads: what each of them is, not its number.
fn possessions(daemon: &Daemon) -> Vec<String> {
    let of = |what: &str| fs::read_dir(format!("/proc/{}/{what}", daemon.pid())).unwrap().flatten();
    // One that is closed meanwhile has no target any more.
    let target = |path: &Path| fs::read_link(path).unwrap_or_default().display().to_string();
    // Numbers of sockets differ each time, names of the files of modules do not.
    let kind = |target: String| target.split(":[").next().unwrap_or_default().to_owned();
    let descriptors = of("fd").map(|entry| kind(target(&entry.path())));
    let comm = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
    let threads = of("task").map(|entry| format!("thread {}", comm(&entry.path()).trim()));
    let mut all: Vec<_> = descriptors.chain(threads).collect();
    all.sort();
    all
}

/// Which driver runs on which packet thread (`en0 0`).
fn pins(client: &mut Client) -> Vec<String> {
    let uses = client.modules().unwrap().builds.into_iter().flat_map(|build| build.uses);
    let mut pins: Vec<_> = uses
        .filter(|use_| use_.kind == "driver")
        .map(|use_| format!("{} {}", use_.name, use_.thread))
        .collect();
    pins.sort();
    pins
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
    // Copies: a file that Cargo replaces meanwhile would be mapped beside the old one, and stay.
    let [segments, template] = ["segment", "template"].map(|name| place.module(name));
    let daemon = place.start(&["-t", "3", "-d", "template", "period=1", "-dtemplate", "-pbridge"]);
    let mut client = daemon.client();
    let mut round = || {
        client.mount(&segments, &format!("path={segment}"), None).unwrap();
        client.mount(&template, "period=1", None).unwrap();
        client.umount("en2").unwrap();
        client.umount("en3").unwrap();
    };
    (0..10).for_each(|_| round());
    let before = possessions(&daemon);
    (0..50).for_each(|_| round());
    assert_eq!(possessions(&daemon), before);
    for name in ["en0", "en1", "bridge0"] {
        client.umount(name).unwrap();
    }
    nothing_is_missing(&mut client);
    daemon.stop();
}

#[test]
fn a_driver_that_fails_on_its_thread_fails_alone() {
    let place = Place::new();
    let naughty = naughty();
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
    let mut looks = 0;
    eventually("it sleeps", || {
        looks = if daemon.sleeps() { looks + 1 } else { 0 };
        looks == 10
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

/// A daemon with a storm between en0 on loop 0 and en1 on packet thread 1; en2 comes to packet thread 2.
fn storm(place: &Place) -> Daemon {
    place.start(&["-t", "3", "-d", "template", "period=1", "-dtemplate", "-pbridge"])
}

fn flows(client: &mut Client) {
    let before = sent(client, "en1");
    eventually("frames flow", || sent(client, "en1") > before + 20);
}

fn failed(client: &mut Client) -> Vec<ctl::Use> {
    client.modules().unwrap().failed
}

/// Releases what is stuck.
fn go_on(place: &Place) {
    fs::write(place.root().dir().join("go-on"), "").unwrap();
}

#[test]
fn a_driver_that_never_comes_back_costs_itself_and_its_thread() {
    let place = Place::new();
    let daemon = storm(&place);
    let mut client = daemon.client();
    client.mount(naughty().to_str().unwrap(), "mode=poll-stuck", None).unwrap();
    flows(&mut client);
    eventually("it is given up", || failed(&mut client).len() == 1);
    let reason = failed(&mut client).pop().and_then(|use_| use_.reason).unwrap();
    assert_eq!(reason, "a call has not come back; packet thread 2 is stuck in it");
    assert!(
        daemon.log().contains("packet thread 2 has been in one call of a driver for 5 s"),
        "{}",
        daemon.log()
    );
    assert_eq!(names(&place.root().devices()), ["bridge0", "en0", "en1"]);
    // Its thread gets nobody else; its chunks are nobody's, since it may still write to them.
    flows(&mut client);
    client.mount("template", "", None).unwrap();
    assert_eq!(pins(&mut client), ["en0 0", "en1 1", "en2 0"]);
    client.umount("en2").unwrap();
    go_on(&place);
    eventually("it goes after all", || daemon.log().contains("packet thread 2 came back: en2 is down"));
    client.mount("template", "", None).unwrap();
    assert_eq!(pins(&mut client), ["en0 0", "en1 1", "en2 2"]);
    for name in ["en0", "en1", "en2", "bridge0"] {
        client.umount(name).unwrap();
    }
    let pool = client.counters().unwrap().pool;
    assert_eq!((pool.free, pool.bad_descriptors), (pool.chunks, 0));
    daemon.stop();
}

#[test]
fn a_driver_that_is_stuck_in_create_start_or_stop_hangs_nobody() {
    let place = Place::new();
    for mode in ["create-stuck", "start-stuck"] {
        let daemon = storm(&place);
        let mut client = daemon.client();
        let error = client.mount(naughty().to_str().unwrap(), &format!("mode={mode}"), None).unwrap_err();
        assert!(error.to_string().contains("packet thread 2 is stuck in it"), "{mode}: {error}");
        assert_eq!(names(&place.root().devices()), ["bridge0", "en0", "en1"], "{mode}");
        flows(&mut client);
        go_on(&place);
        eventually("it goes after all", || daemon.log().contains("packet thread 2 came back: en2 is down"));
        client.mount("template", "", None).unwrap();
        daemon.stop();
        fs::remove_dir_all(place.root().dir()).unwrap();
        fs::remove_file(place.path("log0")).unwrap();
    }
    let daemon = storm(&place);
    let mut client = daemon.client();
    client.mount(naughty().to_str().unwrap(), "mode=stop-stuck", None).unwrap();
    flows(&mut client);
    client.umount("en2").unwrap();
    assert!(daemon.log().contains("packet thread 2 is stuck in it"), "{}", daemon.log());
    flows(&mut client);
    daemon.stop();
}

#[test]
fn a_daemon_ends_with_a_driver_that_never_comes_back() {
    let place = Place::new();
    let daemon = storm(&place);
    let mut client = daemon.client();
    client.mount(naughty().to_str().unwrap(), "mode=poll-stuck", None).unwrap();
    daemon.stop();
    assert_eq!(names(place.root().dir()), [] as [&str; 0]);
}

#[test]
fn drivers_on_the_thread_of_a_stuck_one_are_unmounted_with_the_reason() {
    let place = Place::new();
    let daemon = place.start(&["-t", "2", "-dtemplate", "-d", "template", "-dtemplate", "-pbridge"]);
    let mut client = daemon.client();
    assert_eq!(pins(&mut client), ["en0 0", "en1 1", "en2 0"]);
    client.mount(naughty().to_str().unwrap(), "mode=poll-stuck", None).unwrap();
    eventually("both are given up", || failed(&mut client).len() == 2);
    let mut reasons: Vec<_> = failed(&mut client).into_iter().map(|use_| (use_.name, use_.reason)).collect();
    reasons.sort();
    let reason = |text: &str| Some(text.to_owned());
    let expected = [
        ("en1".to_owned(), reason("its packet thread 1 is stuck in another driver")),
        ("en3".to_owned(), reason("a call has not come back; packet thread 1 is stuck in it")),
    ];
    assert_eq!(reasons, expected);
    assert_eq!(pins(&mut client), ["en0 0", "en2 0"]);
    go_on(&place);
    eventually("the thread can be used again", || {
        let mounted = client.mount("template", "", None).unwrap().name;
        let pinned = pins(&mut client).contains(&format!("{mounted} 1"));
        client.umount(&mounted).unwrap();
        pinned
    });
    daemon.stop();
}

/// More drivers than the pool has room for full stocks: each gets a share, and frames flow.
#[test]
fn many_pinned_drivers_do_not_take_the_whole_pool() {
    let place = Place::new();
    let daemon = place.start(&["-t", "4", "--chunks", "1024", "-d", "template", "period=1", "-pbridge"]);
    let mut client = daemon.client();
    for n in 1..=24 {
        // Nobody else is on these segments, so nothing comes back.
        let segment = place.path(&format!("segment{n}")).display().to_string();
        client.mount("segment", &format!("path={segment}"), None).unwrap();
    }
    eventually("half of the pool is free", || {
        let pool = client.counters().unwrap().pool;
        pool.free > pool.chunks / 2
    });
    eventually("the last one sends", || sent(&mut client, "en24") > 20);
    for n in 0..=24 {
        client.umount(&format!("en{n}")).unwrap();
    }
    client.umount("bridge0").unwrap();
    let pool = client.counters().unwrap().pool;
    assert_eq!((pool.free, pool.bad_descriptors), (pool.chunks, 0));
    daemon.stop();
}

#[test]
fn mounts_and_unmounts_from_many_clients_under_traffic_leave_nothing() {
    let place = Place::new();
    let daemon = place.start(&["-t", "4", "-d", "template", "period=1", "-dtemplate", "-pbridge"]);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (place, daemon) = (&place, &daemon);
            scope.spawn(move || {
                let segment = place.path(&format!("segment{client}")).display().to_string();
                let mut client = daemon.client();
                for _ in 0..8 {
                    let one = client.mount("template", "period=1", None).unwrap().name;
                    let two = client.mount("segment", &format!("path={segment}"), None).unwrap().name;
                    client.interfaces(None).unwrap();
                    client.umount(&one).unwrap();
                    client.umount(&two).unwrap();
                }
            });
        }
    });
    let mut client = daemon.client();
    flows(&mut client);
    for name in ["en0", "en1", "bridge0"] {
        client.umount(name).unwrap();
    }
    nothing_is_missing(&mut client);
    daemon.stop();
}

#[test]
fn drivers_on_the_thread_of_one_that_fails_go_on() {
    let place = Place::new();
    let daemon =
        place.start(&["-t", "2", "-d", "template", "period=1", "-dtemplate", "-dtemplate", "-pbridge"]);
    let mut client = daemon.client();
    for mode in ["poll-error", "poll-panic", "transmit-panic"] {
        // It may fail before the answer to the mount is written.
        let _ = client.mount(naughty().to_str().unwrap(), &format!("mode={mode}"), None);
        eventually(mode, || pins(&mut client) == ["en0 0", "en1 1", "en2 0"]);
        flows(&mut client);
    }
    assert_eq!(failed(&mut client).len(), 3);
    daemon.stop();
}

#[test]
fn a_start_after_a_crash_with_threads_and_traffic_works() {
    let place = Place::new();
    for _ in 0..3 {
        let daemon = storm(&place);
        flows(&mut daemon.client());
        daemon.crash();
    }
    let daemon = storm(&place);
    flows(&mut daemon.client());
    daemon.stop();
    assert_eq!(names(place.root().dir()), [] as [&str; 0]);
}

#[test]
fn a_driver_that_does_not_declare_parallel_stays_on_the_main_thread() {
    let place = Place::new();
    let c = echo().to_str().unwrap();
    let daemon = place.start(&["-t", "2", "-d", "template", "period=1", "-d", c, "-dtemplate", "-pbridge"]);
    let mut client = daemon.client();
    assert_eq!(pins(&mut client), ["en0 0", "en1 0", "en2 1"]);
    flows(&mut client);
    daemon.stop();
}
