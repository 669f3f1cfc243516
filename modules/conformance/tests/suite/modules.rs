//! What every module keeps, and what a host does with modules that do not keep it.

use std::{fs, path::Path, sync::Arc};

use io_pkt_host::{Build, Kind, State, options};

use crate::common::{Driver, Protocol, carries_frames, driver, loader, module, workshop};
use crate::resolvers;

/// Options with which a module can be started anywhere, without rights and without touching the machine. The others are
/// only made: `create` changes nothing outside.
fn harmless_options(name: &str) -> Option<String> {
    match name {
        "devn-segment" => Some(format!("path={}", workshop().dir().join("segment").display())),
        "devn-pcap" => Some(format!("write={}", workshop().dir().join("out.pcap").display())),
        "devn-template" | "devn-echo" | "devn-frozen" | "devn-later" | "devn-naughty" | "lsm-bridge" => {
            Some(String::new())
        }
        "lsm-qnet" => Some("host=conformance".to_owned()),
        _ => None,
    }
}

#[test]
fn every_module_of_the_workspace_conforms() {
    let modules = workshop().workspace_modules().unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<_> = modules.iter().filter_map(|file| file.file_stem()?.to_str()).collect();
    for expected in [
        "devn-packet",
        "devn-pcap",
        "devn-segment",
        "devn-tap",
        "devn-template",
        "lsm-bridge",
        "lsm-qnet",
        "nr-static",
    ] {
        assert!(names.contains(&expected), "{expected} was not built: {names:?}");
    }
    for file in &modules {
        conforms(file);
    }
}

#[test]
fn a_module_in_c_conforms() {
    conforms(&module("echo"));
}

#[test]
fn a_module_of_frozen_abi_1_0_conforms() {
    conforms(&module("frozen"));
}

#[test]
fn a_module_of_a_later_minor_version_conforms() {
    let build = driver(&module("later")).unwrap();
    assert_eq!(build.abi(), (1, 7));
    conforms(&module("later"));
}

/// What a module that keeps the rules does.
const GOES_ON: &str = "the module goes on";

/// The suite.
fn conforms(file: &Path) {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a file name");
    println!("--- {stem}");
    let kind = match stem.split('-').next() {
        Some("lsm") => Kind::Protocol,
        Some("nr") => Kind::Resolver,
        _ => Kind::Driver,
    };
    let build = loader().load(kind, file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(build.name(), stem, "the note's name is the file's");
    assert!(!build.build_text().is_empty() && build.code_size() > 0 && !build.range().is_empty());
    declares_sound_options(&build);
    match kind {
        Kind::Driver => driver_conforms(&build),
        Kind::Protocol => protocol_conforms(&build),
        Kind::Resolver => resolvers::conforms(&build),
    }
    assert_eq!(build.uses(), 0, "{stem}: no use remains");
}

fn declares_sound_options(build: &Build) {
    for (index, option) in build.options().iter().enumerate() {
        let name = &option.name;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        assert!(name.bytes().all(plain), "{}: option name {name:?}", build.name());
        assert!(!option.help.is_empty() && !option.help.contains('\n'), "{}: help of {name}", build.name());
        assert!(build.options()[..index].iter().all(|other| other.name != *name), "{name} is declared twice");
    }
    let error = build.accept(&options::parse("no-such-option=1")).expect_err("an unknown option").to_string();
    assert!(
        error.starts_with(&format!("{}: unknown option \"no-such-option\"; known options:", build.name()))
    );
}

fn driver_conforms(build: &Arc<Build>) {
    let Some(typed) = harmless_options(build.name()) else {
        return creates_or_explains(Driver::create(build, ""));
    };
    let mut driver = Driver::start(build, &typed).unwrap_or_else(|error| panic!("{error}"));
    assert!(driver.host.interface().is_some(), "start makes the interface known");
    let frames: Vec<Vec<u8>> = (0..70).map(|n| vec![n as u8; 60 + n * 20]).collect();
    for _ in 0..3 {
        driver.transmit(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect(GOES_ON);
        driver.settle().expect(GOES_ON);
    }
    // A batch of one frame in many chunks, and frames that are no frames.
    driver.transmit(&[&[1; 9000], &[], &[2; 5]]).expect(GOES_ON);
    driver.settle().expect(GOES_ON);
    driver.use_.stats().expect(GOES_ON);
    driver.use_.stop().expect(GOES_ON);
    assert_eq!(*driver.use_.state(), State::Stopped);
    driver.end();
    // A use that is never started, and two at once.
    Driver::create(build, &typed).expect(GOES_ON).end();
    let (one, two) =
        (Driver::start(build, &typed).expect(GOES_ON), Driver::start(build, &typed).expect(GOES_ON));
    assert_eq!(build.uses(), 2);
    one.end();
    two.end();
}

fn protocol_conforms(build: &Arc<Build>) {
    let Some(typed) = harmless_options(build.name()) else {
        return creates_or_explains(Protocol::create(build, ""));
    };
    let mut protocol = Protocol::create(build, &typed).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(protocol.receive(1, &[]), Ok(false), "nothing reaches a use that is not started");
    protocol.use_.start().unwrap_or_else(|error| panic!("{error}"));
    assert!(!protocol.host.claims().is_empty(), "start claims ethertypes");
    protocol.arrive(1, "en0").expect(GOES_ON);
    protocol.arrive(2, "en1").expect(GOES_ON);
    for n in 0..200_u8 {
        let frame: Vec<u8> = (0..60).map(|at: u8| at.wrapping_mul(n)).collect();
        assert_eq!(protocol.receive(1 + u32::from(n % 3), &[&frame, &[n; 3000], &[]]), Ok(true));
        protocol.poll().expect(GOES_ON);
    }
    protocol.use_.report("").expect(GOES_ON);
    protocol.use_.report("no such topic").expect_err("an unknown topic");
    assert_eq!(*protocol.use_.state(), State::Started);
    protocol.use_.stop().expect(GOES_ON);
    protocol.end();
}

/// A module that cannot be started here can be made, or says in one line why not.
fn creates_or_explains<T>(result: Result<T, io_pkt_host::UseError>) {
    if let Err(error) = result {
        let text = error.to_string();
        assert!(!error.text.is_empty() && !text.contains('\n') && error.errno > 0, "{error:?}");
        println!("    {text}");
    }
}

#[test]
fn errors_and_panics_of_create_and_start_leave_nothing() {
    let build = driver(&module("naughty")).unwrap();
    for (mode, errno, expected) in [
        ("create-error", libc::ENODEV, "devn-naughty: cannot create en0: there is no card in slot 5"),
        ("create-panic", libc::EIO, "devn-naughty: cannot create en0: panicked at "),
        ("start-error", libc::EACCES, "devn-naughty: cannot start en0: slot 5 is locked"),
        ("start-panic", libc::EIO, "devn-naughty: cannot start en0: panicked at "),
    ] {
        let error = Driver::start(&build, &format!("mode={mode}")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(expected) && !text.contains('\n'), "{mode}: {text}");
        assert_eq!(error.errno, errno, "{mode}");
        if mode.ends_with("panic") {
            assert!(text.contains("naughty.rs:"), "the place is named: {text}");
        }
    }
    carries_frames(&mut Driver::start(&build, "").unwrap());
}

#[test]
fn a_poll_that_panics_under_traffic_fails_its_use_alone() {
    let build = driver(&module("naughty")).unwrap();
    let mut good = Driver::start(&build, "").unwrap();
    let mut bad = Driver::start(&build, "mode=poll-panic").unwrap();
    let frames = [&[1; 60][..], &[2; 60], &[3; 60]];
    assert_eq!(bad.transmit(&frames).unwrap(), 3);
    assert_eq!(bad.host.held_by_use(), 3);
    let error = bad.settle().unwrap_err();
    assert_eq!((error.call, error.errno), ("poll", libc::EIO));
    let reason = bad.host.failure().expect("the module says why");
    assert!(reason.starts_with("panicked at ") && reason.ends_with(": frame 3 of nothing"), "{reason}");
    bad.use_.fail(reason.clone());
    assert_eq!(*bad.use_.state(), State::Failed { reason });
    // Nothing reaches a failed use; its end gives the chunks back.
    assert_eq!(bad.transmit(&frames).unwrap(), 0);
    bad.settle().unwrap();
    carries_frames(&mut good);
    bad.end();
    carries_frames(&mut good);
    good.end();
}

#[test]
fn every_other_panic_is_fenced_too() {
    let build = driver(&module("naughty")).unwrap();
    let mut driver = Driver::start(&build, "mode=transmit-panic").unwrap();
    assert_eq!(driver.transmit(&[&[1; 60]]).unwrap_err().call, "transmit");
    assert!(driver.host.failure().unwrap().ends_with("out of ink"));
    driver.end();

    let mut driver = Driver::start(&build, "mode=stats-panic").unwrap();
    assert_eq!(driver.use_.stats().unwrap_err().errno, libc::EIO);
    assert!(driver.host.failure().unwrap().ends_with("cannot count"));
    driver.end();

    let mut driver = Driver::start(&build, "mode=stop-panic").unwrap();
    assert_eq!(driver.use_.stop().unwrap_err().errno, libc::EIO);
    driver.end();

    Driver::start(&build, "mode=drop-panic").unwrap().end();

    let mut driver = Driver::start(&build, "mode=payload-panic").unwrap();
    driver.transmit(&[&[1; 60]]).unwrap();
    assert_eq!(driver.settle().unwrap_err().errno, libc::EIO);
    assert!(driver.host.failure().unwrap().ends_with("no message"));
    driver.end();
}

#[test]
fn an_error_of_poll_is_the_reason_of_the_failure() {
    let build = driver(&module("naughty")).unwrap();
    let mut driver = Driver::start(&build, "mode=poll-error").unwrap();
    driver.transmit(&[&[1; 60]]).unwrap();
    driver.settle().unwrap_err();
    assert_eq!(driver.host.failure().as_deref(), Some("the card fell out of slot 5"));
    driver.end();
}

#[test]
fn a_panic_on_a_thread_of_the_module_reaches_the_log() {
    let build = driver(&module("naughty")).unwrap();
    let mut driver = Driver::start(&build, "mode=thread-panic").unwrap();
    driver.transmit(&[&[1; 60]]).unwrap();
    driver.settle().unwrap();
    let lines = driver.host.log_lines();
    let started = lines.iter().find(|line| line.text == "started mode=\"thread-panic\"");
    assert_eq!(started.map(|line| line.level), Some(3), "{lines:?}");
    // Whichever use of the module is alive hears of it: the thread belongs to none.
    driver.end();
}

#[test]
fn chunks_that_a_use_holds_come_back_at_its_end() {
    let build = driver(&module("naughty")).unwrap();
    let mut driver = Driver::start(&build, "mode=hold").unwrap();
    for _ in 0..10 {
        driver.transmit(&[&[1; 60]]).unwrap();
        driver.settle().unwrap();
    }
    assert_eq!(driver.host.held_by_use(), 80);
    driver.end();
}

#[test]
fn three_hundred_uses_leave_no_descriptor_thread_or_mapping() {
    let count = || {
        let entries = |path: &str| fs::read_dir(path).unwrap().count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let modules = maps.lines().filter(|line| line.contains("memfd:devn-")).count();
        (entries("/proc/self/fd"), modules)
    };
    let round = |file: &Path| {
        let build = driver(file).unwrap();
        let mut use_ = Driver::start(&build, "").unwrap();
        carries_frames(&mut use_);
        use_.end();
    };
    let files = [module("naughty"), module("echo"), module("frozen")];
    files.iter().for_each(|file| round(file));
    let builds = loader().builds().len();
    let before = count();
    for _ in 0..100 {
        files.iter().for_each(|file| round(file));
    }
    // Other tests of this process open and close descriptors of their own meanwhile.
    assert!(count().0 <= before.0 + 32, "{:?} became {:?}", before, count());
    assert!(loader().builds().len() <= builds + 16);
}
