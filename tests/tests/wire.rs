//! What is on the wire, judged by stock tshark: a capture from the first frame to the last.
//!
//! The commands are those of the wire format's reference: every frame decodes as Qnet, none is
//! malformed, every checksum is right, and the fields say what was sent.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::capture::{Capture, ask, count, is_clean};
use system_tests::{Need, Pair, cases, eventually};

/// Two nodes find each other, one reads a file of the other, all of it captured on alonzo.
fn exchange() -> Result<Pair> {
    let pair = Pair::bare()?;
    {
        let Pair { alonzo, joseph, .. } = &pair;
        let capture = Capture::start(alonzo)?;
        joseph.shell("head -c 40000 /dev/urandom >/tmp/file")?;
        let options = ["do_crc=1".to_owned()];
        joseph.start(&joseph.usual_start(&options))?;
        alonzo.start(&alonzo.usual_start(&options))?;
        eventually("joseph in /net", || alonzo.shell("ls /net").is_ok_and(|names| names.contains("joseph")))?;
        ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
        alonzo.shell("qnet-ping -q -c 3 -i 0.01 -W 10 joseph")?;
        let (here, there) =
            (alonzo.shell("md5sum </net/joseph/tmp/file")?, joseph.shell("md5sum </tmp/file")?);
        ensure!(here == there);
        let daemon = alonzo.daemon().context("io-pkt runs")?;
        kill(Pid::from_raw(daemon.pid), Signal::SIGTERM)?;
        eventually("the end of io-pkt", || !daemon.is_alive())?;
        capture.stop("qnet6.kif.msgsend.msg.connect.path == \"tmp/file\"")?;
    }
    Ok(pair)
}

fn every_frame_is_clean_qnet() -> Result<()> {
    is_clean(&exchange()?.alonzo)
}

fn fields_say_what_was_sent() -> Result<()> {
    let pair = exchange()?;
    let node = &pair.alonzo;
    for (what, filter) in [
        ("an announcement or request", "lr && eth.dst == ff:ff:ff:ff:ff:ff"),
        ("a session", "qos"),
        ("a connect", "qnet6.kif.type == 0 || qnet6.kif.type == 1"),
        ("its success", "qnet6.kif.type == 2"),
        ("an open", "qnet6.kif.msgsend.msg.type == 0x100"),
        ("the path of the first file", "qnet6.kif.msgsend.msg.connect.path == \"etc/hostname\""),
        ("the path of the second file", "qnet6.kif.msgsend.msg.connect.path == \"tmp/file\""),
        ("a read", "qnet6.kif.msgsend.msg.type == 0x101"),
        ("a close", "qnet6.kif.msgsend.msg.type == 0x116"),
    ] {
        ensure!(count(node, filter)? > 0, "{what}: no frame matches {filter}\n{}", ask(node, "")?);
    }
    let names = ask(node, "-Y lr -V -O lwl4,lr")?;
    ensure!(names.contains("alonzo") && names.contains("joseph"), "{names}");
    Ok(())
}

cases! {
    every_frame_is_clean_qnet: [Need::RootNodes, Need::Fuse, Need::Program("tshark")],
    fields_say_what_was_sent: [Need::RootNodes, Need::Fuse, Need::Program("tshark")],
}
