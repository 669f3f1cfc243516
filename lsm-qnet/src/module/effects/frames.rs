//! Options whose effect is seen in frames.

use std::fs;

use super::rig::{ACK, EN0, EN1, INIT, RESOLVE, Rig, Sent, USER};

/// What a node sends when it comes.
fn announcements(options: &[(&str, &str)]) -> Vec<Sent> {
    let mut rig = Rig::alone(options);
    rig.ticks(10);
    assert!(!rig.alonzo.sent.is_empty());
    rig.alonzo.sent
}

pub(super) fn bind() {
    let uses = |options: &[(&str, &str)]| {
        let mut interfaces: Vec<_> = announcements(options).iter().map(|sent| sent.interface).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        interfaces
    };
    assert_eq!(uses(&[]), [EN0, EN1]);
    assert_eq!(uses(&[("bind", "en1")]), [EN1]);
    assert_eq!(uses(&[("bind", "en1"), ("bind", "en0")]), [EN0, EN1]);
}

pub(super) fn resolve() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "karl 02:00:00:00:00:77\n").unwrap();
    let resolver = format!("file:{}", hosts.display());
    // Who is asked for a name: the wire, or nobody but the file.
    let mut rig = Rig::alone(&[("auto_add", "0")]);
    let program = rig.look_up("karl");
    assert!(rig.finish(program).is_err());
    assert!(!rig.alonzo.frames(RESOLVE).is_empty(), "everybody is asked");
    let mut rig = Rig::alone(&[("auto_add", "0"), ("resolve", &resolver)]);
    let (known, unknown) = (rig.look_up("karl"), rig.look_up("ghost"));
    assert!(rig.finish(known).is_ok());
    assert!(rig.finish(unknown).is_err());
    assert!(rig.alonzo.frames(RESOLVE).is_empty(), "the file is asked alone");
}

pub(super) fn do_crc() {
    assert!(announcements(&[]).iter().all(|sent| !sent.has_checksum()));
    assert!(announcements(&[("do_crc", "1")]).iter().all(Sent::has_checksum));
}

pub(super) fn enforce_crc() {
    let hears = |alonzo: &[(&str, &str)], joseph: &[(&str, &str)]| {
        let mut rig = Rig::new(alonzo, joseph);
        rig.ticks(10);
        rig.alonzo.bench.report("").unwrap().contains("joseph")
    };
    assert!(hears(&[("do_crc", "1")], &[]), "a packet without a checksum is taken");
    assert!(!hears(&[("do_crc", "1"), ("enforce_crc", "1")], &[]));
    assert!(hears(&[("do_crc", "1"), ("enforce_crc", "1")], &[("do_crc", "1")]));
}

pub(super) fn mtu_en() {
    let longest = |options: &[(&str, &str)]| {
        let mut rig = Rig::new(options, &[("allow", "connect")]);
        let (at, server) = rig.serve(1);
        let client = rig.send(at, 7000);
        assert_eq!(rig.finish(client), Ok(()));
        rig.finish(server);
        let longest = rig.alonzo.sent.iter().map(|sent| sent.frame.len()).max();
        longest.unwrap() - 14
    };
    assert_eq!(longest(&[]), 1500);
    assert_eq!(longest(&[("mtu_en", "600")]), 600);
}

pub(super) fn no_ack() {
    let acknowledged = |options: &[(&str, &str)]| {
        let mut rig = Rig::new(options, &[options, &[("allow", "connect")]].concat());
        rig.connect();
        rig.alonzo.frames(ACK).len() + rig.joseph.frames(ACK).len()
    };
    assert!(acknowledged(&[]) > 0);
    assert_eq!(acknowledged(&[("no_ack", "1")]), 0);
}

pub(super) fn max_num_l4s() {
    // A long message, and the interfaces that its packets take.
    let taken = |options: &[(&str, &str)]| {
        let mut rig = Rig::new(options, &[options, &[("allow", "connect")]].concat());
        rig.ticks(10);
        let (at, server) = rig.serve(1);
        let client = rig.send(at, 500_000);
        assert_eq!(rig.finish(client), Ok(()));
        rig.finish(server);
        let mut interfaces: Vec<_> = rig.alonzo.frames(USER).iter().map(|sent| sent.interface).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        interfaces.len()
    };
    assert_eq!(taken(&[]), 2);
    assert_eq!(taken(&[("max_num_l4s", "1")]), 1);
}

pub(super) fn max_tx_bufs() {
    let reserve = |value: &str| {
        let mut rig = Rig::alone(&[("max_tx_bufs", value)]);
        rig.ticks(1);
        let report = rig.alonzo.bench.report("").unwrap();
        let line = report.lines().find(|line| line.contains("buffers in reserve")).unwrap().to_owned();
        let count = line.split("; ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>();
        // With an empty pool, announcements go out for as long as the reserve lasts.
        rig.alonzo.bench.leave_chunks(0);
        (count.unwrap(), rig)
    };
    let (count, mut rig) = reserve("20");
    assert_eq!(count, 20);
    let before = rig.alonzo.sent.len();
    rig.ticks(150);
    assert!(rig.alonzo.sent.len() > before);
    assert_eq!(reserve("0").0, 0);
}

pub(super) fn vtag() {
    let tagged = announcements(&[("vtag", "7")]);
    assert!(tagged.iter().all(|sent| sent.frame[12..18] == [0x81, 0, 0, 7, 0x82, 4]));
    let hears = |alonzo: &[(&str, &str)], joseph: &[(&str, &str)]| {
        let mut rig = Rig::new(alonzo, joseph);
        rig.ticks(10);
        rig.alonzo.bench.report("").unwrap().contains("joseph")
    };
    assert!(hears(&[("vtag", "7")], &[("vtag", "7")]));
    assert!(!hears(&[("vtag", "7")], &[("vtag", "8")]));
    assert!(!hears(&[("vtag", "7")], &[]));
    assert!(!hears(&[("vtag", "7")], &[]) && Rig::alone(&[("vtag", "7")]).alonzo.frames(INIT).is_empty());
    assert_eq!(Rig::alone(&[("vtag", "7")]).alonzo.bench.host().claims(), [0x8100]);
    assert_eq!(Rig::alone(&[]).alonzo.bench.host().claims(), [0x8204]);
}
