//! The driver behind its real table: replays with their timing, recordings read back.

use std::path::Path;

use io_pkt_sdk::testing::Bench;

use crate::Pcap;
use crate::read::Capture;
use crate::write::{Format, Recorder};

const SECOND: u64 = 1_000_000_000;

/// A frame of `len` bytes that says its number.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// A capture of frames 0, 1, 2, … with these times and lengths.
fn capture(dir: &Path, name: &str, frames: &[(u64, usize)]) -> String {
    let path = dir.join(name);
    let file = std::fs::File::create(&path).unwrap();
    let mut recorder = Recorder::new(file, Format::of(name), 262_144).unwrap();
    for (number, (stamp, len)) in frames.iter().enumerate() {
        let frame = frame(number as u8, *len);
        recorder.record(*stamp, frame.len(), [&frame[..]].into_iter()).unwrap();
    }
    recorder.flush().unwrap();
    path.to_str().unwrap().to_owned()
}

fn started(options: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::driver::<Pcap>("en0", "/", options).unwrap();
    bench.start().unwrap();
    bench
}

fn numbers(bench: &mut Bench) -> Vec<u8> {
    bench.settle();
    bench.received().iter().map(|frame| frame[0]).collect()
}

fn refusal(options: &[(&str, &str)]) -> String {
    match Bench::driver::<Pcap>("en0", "/", options) {
        Err(error) => error.text().to_owned(),
        Ok(mut bench) => bench.start().unwrap_err().text().to_owned(),
    }
}

#[test]
fn the_original_timing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.pcap", "a.pcapng"] {
        let path = capture(dir.path(), name, &[(5 * SECOND, 60), (6 * SECOND, 60), (8 * SECOND, 60)]);
        let mut bench = started(&[("read", &path)]);
        assert_eq!(numbers(&mut bench), [0]);
        bench.host().advance(SECOND * 9 / 10);
        assert_eq!(numbers(&mut bench), [0_u8; 0]);
        bench.host().advance(SECOND * 2 / 10);
        assert_eq!(numbers(&mut bench), [1]);
        bench.host().advance(2 * SECOND);
        assert_eq!(numbers(&mut bench), [2]);
        bench.host().advance(100 * SECOND);
        assert_eq!(numbers(&mut bench), [0_u8; 0], "once is the default");
        assert_eq!(bench.host().deadline(), None);
    }
}

#[test]
fn a_rate_replaces_the_timing() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), "a.pcap", &[(0, 60), (SECOND, 60), (90 * SECOND, 60), (91 * SECOND, 60)]);
    let mut bench = started(&[("read", &path), ("rate", "2")]);
    assert_eq!(numbers(&mut bench), [0]);
    bench.host().advance(SECOND);
    assert_eq!(numbers(&mut bench), [1, 2]);
    bench.host().advance(SECOND / 2);
    assert_eq!(numbers(&mut bench), [3]);
}

#[test]
fn rounds_follow_each_other_at_full_speed() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<(u64, usize)> = (0..150).map(|n| (n * SECOND, 60)).collect();
    let path = capture(dir.path(), "a.pcap", &frames);
    let mut bench = started(&[("read", &path), ("rate", "max"), ("loop", "3")]);
    let mut got = Vec::new();
    bench.poll_until(|bench| {
        got.extend(bench.received());
        got.len() == 450
    });
    assert!(got.iter().enumerate().all(|(n, frame)| usize::from(frame[0]) == n % 150));
    assert_eq!(numbers(&mut bench), [0_u8; 0]);
    assert_eq!((bench.stats().rx_packets, bench.stats().rx_bytes), (450, 450 * 60));
}

#[test]
fn an_endless_replay_goes_on_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), "a.pcap", &[(0, 60)]);
    let mut bench = started(&[("read", &path), ("rate", "1"), ("loop", "0")]);
    for _ in 0..5 {
        assert_eq!(numbers(&mut bench), [0]);
        bench.host().advance(SECOND);
    }
    bench.stop();
    assert_eq!(bench.host().held_by_use(), 0);
}

#[test]
fn tagged_and_long_frames_come_as_they_are_and_useless_ones_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcap");
    let mut recorder = Recorder::new(std::fs::File::create(&path).unwrap(), Format::Pcap, 9000).unwrap();
    let mut tagged = frame(1, 64);
    tagged[12..18].copy_from_slice(&[0x81, 0, 0, 5, 0x88, 0xb5]);
    let long = frame(2, 9000);
    for frame in [&tagged[..], &long, &frame(3, 9001), &[4; 13]] {
        recorder.record(0, frame.len(), [frame].into_iter()).unwrap();
    }
    recorder.flush().unwrap();
    let mut bench = started(&[("read", path.to_str().unwrap())]);
    bench.settle();
    assert_eq!(bench.received(), [tagged, long]);
    let stats = bench.stats();
    assert_eq!(
        (stats.rx_packets, stats.rx_dropped),
        (2, 2),
        "one was cut by the snap length, one is no frame"
    );
}

#[test]
fn a_full_pool_delays_a_replay_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), "a.pcap", &[(0, 60); 10]);
    let mut bench = started(&[("read", &path)]);
    bench.leave_chunks(0);
    assert_eq!(numbers(&mut bench), [0_u8; 0]);
    assert!(bench.stats().rx_no_memory > 0);
    bench.leave_chunks(usize::MAX);
    bench.host().advance(SECOND);
    assert_eq!(numbers(&mut bench).len(), 10);
}

#[test]
fn a_file_that_is_damaged_ends_the_replay_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), "a.pcap", &[(0, 60), (0, 60)]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let mut bench = started(&[("read", &path)]);
    assert_eq!(numbers(&mut bench), [0], "what is whole is delivered");
    let said: Vec<String> = bench.host().log_lines().into_iter().map(|line| line.text).collect();
    let expected = format!(
        "read={path} is cut off at offset {}: 10 more bytes of a frame should follow; the replay ends after 1 frames of this round",
        bytes.len() - 10
    );
    assert!(said.contains(&expected), "{said:?}");
}

#[test]
fn what_is_sent_is_recorded_and_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["out.pcap", "out.pcapng"] {
        let path = dir.path().join(name);
        let text = path.to_str().unwrap();
        let mut bench = started(&[("write", text), ("snaplen", "100")]);
        let frames = [frame(1, 61), frame(2, 5000)];
        assert_eq!(bench.transmit(&[&frames[0], &frames[1]]), 2);
        bench.settle();
        bench.host().advance(SECOND);
        bench.settle();
        let mut capture = Capture::open(std::fs::File::open(&path).unwrap()).unwrap();
        let first = capture.next().unwrap().unwrap();
        assert_eq!((first.whole, capture.frame()), (true, &frames[0][..]));
        assert!(first.stamp.is_some_and(|stamp| stamp > 1_600_000_000 * SECOND), "today's date");
        let second = capture.next().unwrap().unwrap();
        assert_eq!((second.whole, capture.frame()), (false, &frames[1][..100]));
        assert_eq!(capture.next().unwrap(), None, "flushed while the driver runs");
        assert_eq!((bench.stats().tx_packets, bench.stats().tx_bytes), (2, 5061));
        bench.stop();
    }
}

#[test]
fn stopping_writes_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcap");
    let mut bench = started(&[("write", path.to_str().unwrap())]);
    bench.transmit(&[&frame(1, 60)]);
    bench.stop();
    let mut capture = Capture::open(std::fs::File::open(&path).unwrap()).unwrap();
    assert!(capture.next().unwrap().is_some());
}

#[test]
fn without_a_file_to_write_sent_frames_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = capture(dir.path(), "a.pcap", &[(0, 60)]);
    let mut bench = started(&[("read", &path)]);
    assert_eq!(bench.transmit(&[&frame(1, 60)]), 1);
    assert_eq!((bench.stats().tx_packets, bench.stats().tx_dropped), (0, 1));
}

#[test]
fn wrong_calls_are_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("text"), "not a capture").unwrap();
    std::fs::write(path("empty"), "").unwrap();
    let good = capture(dir.path(), "a.pcap", &[(0, 60)]);
    nix::unistd::mkfifo(Path::new(&path("fifo")), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (options, expected) in [
        (vec![], "read= and write= are missing: one of them says which file".to_owned()),
        (vec![("read", "a.pcap")], "read=a.pcap does not begin with /".to_owned()),
        (vec![("read", &*path("none"))], format!("read={}: No such file", path("none"))),
        (vec![("read", &*path("text"))], format!("read={} is neither pcap nor pcapng", path("text"))),
        (vec![("read", &*path("empty"))], format!("read={} is empty", path("empty"))),
        (vec![("read", &*path("fifo"))], format!("read={}: is not a regular file", path("fifo"))),
        (vec![("write", "/dev/null")], "write=/dev/null: is not a regular file".to_owned()),
        (vec![("write", &*path("none/x"))], format!("write={}: No such file", path("none/x"))),
        (vec![("read", &*good), ("rate", "fast")], "rate=fast is neither original, max nor".to_owned()),
        (vec![("write", &*path("x")), ("rate", "max")], "rate= goes with read=".to_owned()),
        (vec![("read", &*good), ("snaplen", "60")], "snaplen= goes with write=".to_owned()),
        (vec![("read", &*good), ("write", &*good)], "read= and write= name the same file".to_owned()),
    ] {
        let text = refusal(&options);
        assert!(text.starts_with(&expected), "{options:?}: {text}");
    }
    assert!(std::fs::metadata(&good).unwrap().len() > 24, "a file that is read is not emptied");
}
