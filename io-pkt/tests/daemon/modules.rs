//! Mounting and unmounting at run time, and frames in between.
//!
//! The traffic comes from `devn-template`: it makes a broadcast frame now and then and sends back whatever it is
//! given, so two of them behind a bridge never come to rest.

use std::{fs::File, os::fd::AsFd};

use ctl::ClientError;

use crate::support::{Place, eventually, names};

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (String, String) {
    match result {
        Err(ClientError::Refused(error)) => (error.errno, error.text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_of_one_driver_reach_another_through_the_bridge() {
    let place = Place::new();
    let daemon = place.start(&["-d", "template", "period=1", "-dtemplate", "-pbridge"]);
    let mut client = daemon.client();
    eventually("en1 sends what en0 made", || {
        let en1 = &client.interfaces(Some("en1")).unwrap()[0];
        en1.stats.tx_packets.is_some_and(|packets| packets > 20)
    });
    let counters = client.counters().unwrap();
    assert!(counters.frames_delivered >= counters.frames_sent && counters.frames_sent > 0, "{counters:?}");
    assert_eq!(counters.pool.bad_descriptors, 0);
    daemon.stop();
}

#[test]
fn frames_that_nobody_wants_are_counted_with_the_reason() {
    let place = Place::new();
    let daemon = place.start(&["-d", "template", "period=1"]);
    let mut client = daemon.client();
    eventually("a drop is counted", || {
        let en0 = &client.interfaces(Some("en0")).unwrap()[0];
        en0.drops.iter().any(|drop| drop.reason == "no-protocol" && drop.count > 3)
    });
    daemon.stop();
}

#[test]
fn a_driver_comes_back_with_its_number_by_any_name() {
    let place = Place::new();
    let segment = place.path("segment").display().to_string();
    let daemon = place.start(&["-pbridge", "-dtemplate"]);
    let mut client = daemon.client();
    for name in ["en1", "/dev/io-net/en1", &format!("{}/en1", place.root().devices().display()), &segment] {
        let mounted = client.mount("devn-segment.so", &format!("path={segment}"), None).unwrap();
        assert_eq!((mounted.name.as_str(), mounted.module.as_str()), ("en1", "devn-segment"));
        assert_eq!(mounted.path, Some(place.root().devices().join("en1")));
        assert_eq!(client.umount(name).unwrap().name, "en1", "{name}");
        assert_eq!(names(&place.root().devices()), ["bridge0", "en0"], "{name}");
    }
    assert_eq!(refused(client.umount("en1")).0, "ENOENT");
    assert_eq!(refused(client.umount("/dev/io-net/tap0")).0, "ENOENT");
    assert_eq!(client.umount("bridge0").unwrap().module, "lsm-bridge");
    daemon.stop();
}

#[test]
fn a_module_is_mounted_from_the_open_file() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let dir = std::path::Path::new(env!("CARGO_BIN_EXE_io-pkt")).parent().unwrap();
    let file = File::open(dir.join("libdevn_template.so")).unwrap();
    let mut client = daemon.client();
    // The name says nothing: what counts is the descriptor.
    assert_eq!(client.mount("./seen/only/by/mount.so", "", Some(file.as_fd())).unwrap().name, "en0");
    let file = File::open(dir.join("liblsm_bridge.so")).unwrap();
    assert_eq!(client.mount("other.so", "", Some(file.as_fd())).unwrap().name, "bridge0");
    let modules = client.modules().unwrap();
    let uses: Vec<_> =
        modules.builds.iter().flat_map(|build| &build.uses).map(|use_| use_.name.as_str()).collect();
    assert_eq!(uses, ["en0", "bridge0"]);
    assert!(
        modules.builds.iter().all(|build| build.code > 0 && build.address > 0 && !build.build_id.is_empty())
    );
    daemon.stop();
}

#[test]
fn wrong_mounts_are_refused_in_one_line_and_leave_nothing() {
    let place = Place::new();
    let daemon = place.start(&["-dtemplate"]);
    let mut client = daemon.client();
    let text = place.path("text.so");
    std::fs::write(&text, "not a module").unwrap();
    for (module, options, errno) in [
        ("nosuch", "", "ENOENT"),
        ("/nowhere/devn-x.so", "", "ENOENT"),
        ("/tmp", "", "EISDIR"),
        (text.to_str().unwrap(), "", "ENOEXEC"),
        ("template", "unknown=1", "EINVAL"),
        ("template", "lan=0", "EBUSY"),
        ("template", "lan=ten", "EINVAL"),
        ("bridge", "ports", "EINVAL"),
        ("devn-segment.so", "path=/nowhere/segment", "ENOENT"),
    ] {
        let (got, text) = refused(client.mount(module, options, None));
        assert_eq!(got, errno, "{module} {options}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(names(&place.root().devices()), ["en0"], "{module} {options}");
    }
    daemon.stop();
}

#[test]
fn the_process_tells_its_threads_and_sizes() {
    let place = Place::new();
    let daemon = place.start(&["-dtemplate"]);
    let modules = daemon.client().modules().unwrap();
    assert_eq!((modules.version.pid, modules.version.instance), (daemon.pid(), 0));
    assert!(modules.program.ends_with("io-pkt") && modules.code > 0 && modules.data > 0);
    let main = &modules.threads[0];
    assert_eq!((main.tid, main.name.as_str()), (daemon.pid(), "io-pkt"));
    assert!(main.stack_used.is_some_and(|used| used > 0 && Some(used) <= main.stack_size), "{main:?}");
    assert_eq!(modules.threads.len(), 1, "a driver that needs none starts no thread: {:?}", modules.threads);
    daemon.stop();
}
