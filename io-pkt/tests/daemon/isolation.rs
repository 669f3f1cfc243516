//! A module that goes wrong takes nobody along.
//!
//! The driver of `modules/conformance/rust/naughty.rs` fails in each of its entries, beside a storm of frames
//! between two others. It must be gone afterwards, with its reason kept for the operator, and the storm must go on.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ctl::{Client, UseState};

use crate::support::{Daemon, Place, eventually, names, workshop};

/// The driver that misbehaves on demand, and the one in C. Built once.
fn built() -> &'static (PathBuf, PathBuf) {
    static FILES: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    FILES.get_or_init(|| {
        let workshop = workshop();
        (workshop.naughty().unwrap(), workshop.c_module("echo.c", "devn-echo.so", &[]).unwrap())
    })
}

/// The driver that misbehaves on demand.
pub(crate) fn naughty() -> &'static Path {
    &built().0
}

/// The driver in C.
pub(crate) fn echo() -> &'static Path {
    &built().1
}

/// A daemon with a storm between en0 and en1, which every further interface gets a copy of.
fn storm(place: &Place) -> Daemon {
    place.start(&["-d", "template", "period=1", "-dtemplate", "-pbridge"])
}

fn flows(client: &mut Client) {
    let before = client.counters().unwrap().frames_sent;
    eventually("frames flow", || client.counters().unwrap().frames_sent > before + 50);
}

fn present(client: &mut Client) -> Vec<String> {
    client.interfaces(None).unwrap().into_iter().map(|interface| interface.name).collect()
}

#[test]
fn a_driver_that_fails_under_traffic_is_unmounted_with_its_reason() {
    let place = Place::new();
    let (naughty, _) = built();
    let daemon = storm(&place);
    let mut client = daemon.client();
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
        eventually(mode, || present(&mut client) == ["en0", "en1"]);
        let failed = client.modules().unwrap().failed;
        let last = failed.last().unwrap();
        assert_eq!(
            (last.name.as_str(), last.module.as_str(), last.state),
            ("en2", "devn-naughty", UseState::Failed)
        );
        assert!(last.reason.as_deref().is_some_and(|text| text.contains(reason)), "{mode}: {last:?}");
        assert_eq!(names(&place.root().devices()), ["bridge0", "en0", "en1"], "{mode}");
        assert!(daemon.log().contains("devn-naughty failed and was unmounted"), "{}", daemon.log());
        flows(&mut client);
    }
    daemon.stop();
}

#[test]
fn a_driver_that_cannot_start_leaves_nothing() {
    let place = Place::new();
    let (naughty, _) = built();
    let daemon = storm(&place);
    let mut client = daemon.client();
    for (mode, reason) in [
        ("create-error", "there is no card in slot 5"),
        ("create-panic", "no card, no driver"),
        ("start-error", "slot 5 is locked"),
        ("start-panic", "slot 5 is on fire"),
    ] {
        let error =
            client.mount(naughty.to_str().unwrap(), &format!("mode={mode}"), None).unwrap_err().to_string();
        assert!(error.contains(reason), "{mode}: {error}");
        assert_eq!(names(&place.root().devices()), ["bridge0", "en0", "en1"], "{mode}");
        flows(&mut client);
    }
    daemon.stop();
}

#[test]
fn a_driver_that_cannot_leave_in_order_leaves_all_the_same() {
    let place = Place::new();
    let (naughty, _) = built();
    let daemon = storm(&place);
    let mut client = daemon.client();
    for mode in ["stop-panic", "drop-panic", "thread-panic"] {
        client.mount(naughty.to_str().unwrap(), &format!("mode={mode}"), None).unwrap();
        assert_eq!(present(&mut client), ["en0", "en1", "en2"], "{mode}");
        flows(&mut client);
        client.umount("en2").unwrap();
        assert_eq!(present(&mut client), ["en0", "en1"], "{mode}");
        flows(&mut client);
    }
    daemon.stop();
}

#[test]
fn chunks_of_a_driver_that_keeps_them_come_back() {
    let place = Place::new();
    let (naughty, _) = built();
    let daemon = storm(&place);
    let mut client = daemon.client();
    client.mount(naughty.to_str().unwrap(), "mode=hold", None).unwrap();
    let held = |client: &mut Client| {
        let builds = client.modules().unwrap().builds;
        builds.iter().flat_map(|build| &build.uses).find(|use_| use_.name == "en2").unwrap().chunks
    };
    eventually("it holds chunks", || held(&mut client) > 100);
    for name in ["en0", "en1", "en2", "bridge0"] {
        client.umount(name).unwrap();
    }
    let pool = client.counters().unwrap().pool;
    assert_eq!((pool.free, pool.bad_descriptors), (pool.chunks, 0));
    daemon.stop();
}

#[test]
fn a_driver_in_c_carries_frames() {
    let place = Place::new();
    let (_, echo) = built();
    let daemon = place.start(&["-d", "template", "period=1", "-d", echo.to_str().unwrap(), "-pbridge"]);
    let mut client = daemon.client();
    eventually("the C driver sends what en0 made", || {
        let en1 = &client.interfaces(Some("en1")).unwrap()[0];
        en1.driver == "devn-echo" && en1.stats.tx_packets.is_some_and(|packets| packets > 20)
    });
    assert_eq!(client.counters().unwrap().pool.bad_descriptors, 0);
    daemon.stop();
}
