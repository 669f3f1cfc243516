//! Wireshark's programs as judges: tshark reads what the driver writes, and the driver replays what editcap writes.
//!
//! Where they are missing the tests are reported as ignored, and with `CI=true` they fail.

use std::process::{Command, ExitCode};

use io_pkt_sdk::testing::{Bench, netns};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("tshark_reads_both_formats_without_a_complaint", tshark_reads_both_formats_without_a_complaint),
    ("what_wiresharks_own_tools_write_is_replayed", what_wiresharks_own_tools_write_is_replayed),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = ["tshark", "editcap"].into_iter().find(|program| !netns::has(program));
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let trials = TESTS.iter().map(|(name, test)| match missing {
        Some(program) if ci => {
            Trial::test(*name, move || Err(Failed::from(format!("CI=true, and {program} is missing"))))
        }
        Some(program) => {
            eprintln!("{name}: ignored: {program} is not installed");
            Trial::test(*name, || Ok(())).with_ignored_flag(true)
        }
        None => Trial::test(*name, || {
            test();
            Ok(())
        }),
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Runs a program of Wireshark's, which must find nothing wrong.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("HOME", "/nonexistent").output().expect("it starts");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    frame
}

fn record(path: &str, frames: &[Vec<u8>]) {
    let options = [("write", path), ("snaplen", "1000")];
    let mut bench = Bench::driver::<devn_pcap::Pcap>("en0", "/", &options).expect("right options");
    bench.start().expect("a file");
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    assert_eq!(bench.transmit(&frames), frames.len());
    bench.stop();
}

fn tshark_reads_both_formats_without_a_complaint() {
    let dir = tempfile::tempdir().expect("a folder");
    let frames = [frame(1, 60), frame(2, 61), frame(3, 1514)];
    for name in ["out.pcap", "out.pcapng"] {
        let path = dir.path().join(name).to_str().expect("text").to_owned();
        record(&path, &frames);
        let fields = [
            "-r",
            &path,
            "-T",
            "fields",
            "-e",
            "frame.len",
            "-e",
            "frame.cap_len",
            "-e",
            "eth.type",
            "-e",
            "frame.encap_type",
        ];
        let text = run("tshark", &fields);
        assert_eq!(text, "60\t60\t0x88b5\t1\n61\t61\t0x88b5\t1\n1514\t1000\t0x88b5\t1\n", "{name}");
        let text = run("tshark", &["-r", &path, "-Y", "_ws.malformed"]);
        assert_eq!(text, "", "{name}");
    }
}

fn what_wiresharks_own_tools_write_is_replayed() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let frames = [frame(1, 60), frame(2, 61)];
    record(&at("out.pcapng"), &frames);
    for format in ["pcap", "nsecpcap", "pcapng"] {
        run("editcap", &["-F", format, &at("out.pcapng"), &at(format)]);
        let (path, max) = (at(format), "max".to_owned());
        let options = [("read", path.as_str()), ("rate", max.as_str())];
        let mut bench = Bench::driver::<devn_pcap::Pcap>("en0", "/", &options).expect("right options");
        bench.start().expect("a capture");
        bench.settle();
        assert_eq!(bench.received(), frames, "{format}");
    }
}
