//! Options whose effect is a time or a number of attempts. A tick is 200 ms.

use std::collections::BTreeSet;

use super::rig::{EN1, INIT, RESOLVE, Rig, STEP, TICK, USER, gaps};

/// Whether two times are the same, as exactly as can be seen.
fn near(found: u64, expected: u64) {
    assert!(found.abs_diff(expected) <= 2 * STEP, "{found} ms instead of {expected} ms");
}

/// Announcements on each of the two interfaces within 100 ticks, and the time between them.
fn announced(options: &[(&str, &str)]) -> (usize, Vec<u64>) {
    let mut rig = Rig::alone(options);
    rig.ticks(100);
    let mut frames = rig.alonzo.frames(RESOLVE);
    frames.retain(|sent| sent.interface == super::rig::EN0);
    (frames.len(), gaps(&frames))
}

pub(super) fn auto_add() {
    let (count, gaps) = announced(&[("auto_add", "20")]);
    assert!((5..=6).contains(&count), "{count} announcements in 100 ticks");
    gaps.iter().for_each(|gap| near(*gap, 20 * TICK));
    assert_eq!(announced(&[("auto_add", "0")]).0, 0);
    // With 0 those of others are not believed either.
    let knows = |options: &[(&str, &str)]| {
        let mut rig = Rig::new(options, &[]);
        rig.ticks(10);
        rig.alonzo.bench.report("").unwrap().contains("joseph")
    };
    assert!(knows(&[]) && !knows(&[("auto_add", "0")]));
}

pub(super) fn periodic_ticks() {
    let (_, gaps) = announced(&[("auto_add", "20"), ("periodic_ticks", "10")]);
    gaps.iter().for_each(|gap| near(*gap, 20 * TICK / 2));
    assert!(gaps.len() >= 8);
}

/// The requests for a node that nobody knows.
fn requests(options: &[(&str, &str)]) -> (usize, Vec<u64>) {
    let mut rig = Rig::alone(&[&[("auto_add", "0"), ("bind", "en0")], options].concat());
    let program = rig.look_up("ghost");
    assert!(rig.finish(program).is_err());
    let frames = rig.alonzo.frames(RESOLVE);
    (frames.len(), gaps(&frames))
}

pub(super) fn res_retries() {
    assert_eq!(requests(&[]).0, 3);
    assert_eq!(requests(&[("res_retries", "0")]).0, 1);
    assert_eq!(requests(&[("res_retries", "5")]).0, 6);
}

pub(super) fn res_ticks() {
    requests(&[]).1.iter().for_each(|gap| near(*gap, TICK));
    requests(&[("res_ticks", "4")]).1.iter().for_each(|gap| near(*gap, 4 * TICK));
}

/// The attempts to reach a node that is known and silent.
fn attempts(options: &[(&str, &str)]) -> (usize, Vec<u64>) {
    let mut rig = Rig::new(&[&[("bind", "en0")], options].concat(), &[("bind", "en0")]);
    rig.until("joseph is known", |rig| !rig.joseph.sent.is_empty());
    rig.ticks(5);
    rig.wire = (false, false);
    let client = rig.send((1, 1), 10);
    assert!(rig.finish(client).is_err());
    let frames = rig.alonzo.frames(INIT);
    (frames.len(), gaps(&frames))
}

pub(super) fn conn_est_retries() {
    assert_eq!(attempts(&[]).0, 2);
    assert_eq!(attempts(&[("conn_est_retries", "0")]).0, 1);
    assert_eq!(attempts(&[("conn_est_retries", "4")]).0, 5);
}

pub(super) fn conn_est_timeout() {
    attempts(&[]).1.iter().for_each(|gap| near(*gap, TICK));
    attempts(&[("conn_est_timeout", "5")]).1.iter().for_each(|gap| near(*gap, 5 * TICK));
}

/// The frames with data that alonzo sends in vain to a node that falls silent, and for how long.
fn in_vain(options: &[(&str, &str)]) -> (u64, Vec<u64>) {
    let quiet = [("bind", "en0"), ("conn_up_idle", "1000")];
    let mut rig = Rig::new(&[&quiet, options].concat(), &[&quiet[..], &[("allow", "connect")]].concat());
    let at = rig.connect();
    rig.wire = (false, false);
    let before = rig.alonzo.frames(USER).len();
    let client = rig.send(at, 10);
    rig.until("joseph is down", |rig| !rig.alonzo.said("node joseph is down").is_empty());
    let down = rig.now;
    assert!(rig.finish(client).is_err());
    let frames = rig.alonzo.frames(USER).split_off(before);
    (down - frames[0].at, gaps(&frames))
}

pub(super) fn tx_ticks() {
    // The longest pause between two transmissions.
    let longest = |options: &[(&str, &str)]| in_vain(options).1.into_iter().max().unwrap();
    assert!(longest(&[]) <= TICK + STEP);
    let longest = longest(&[("tx_ticks", "4")]);
    assert!(longest > 2 * TICK && longest <= 4 * TICK + STEP, "{longest} ms");
}

pub(super) fn tx_retries() {
    // How long it is tried: tx_retries times tx_ticks.
    near(in_vain(&[]).0.next_multiple_of(TICK), 25 * TICK);
    near(in_vain(&[("tx_retries", "5")]).0.next_multiple_of(TICK), 5 * TICK);
}

/// After a session has come to rest: the pause until the first sign of life, and until joseph counts as down when he
/// does not answer.
fn silence(options: &[(&str, &str)]) -> (u64, u64) {
    let bound = [("bind", "en0"), ("auto_add", "0")];
    let mut rig = Rig::new(
        &[&bound, options].concat(),
        &[&bound[..], &[("allow", "connect"), ("conn_up_idle", "10000")]].concat(),
    );
    rig.connect();
    let rest = rig.alonzo.sent.len();
    let last = rig.alonzo.sent[rest - 1].at.max(rig.joseph.sent.last().unwrap().at);
    rig.wire = (false, false);
    rig.until("a sign of life", |rig| rig.alonzo.sent.len() > rest);
    let asked = rig.now;
    rig.until("joseph is down", |rig| !rig.alonzo.said("node joseph is down").is_empty());
    (asked - last, rig.now - asked)
}

pub(super) fn conn_up_idle() {
    near(silence(&[("conn_up_retries", "1")]).0, 50 * TICK);
    near(silence(&[("conn_up_retries", "1"), ("conn_up_idle", "20")]).0, 20 * TICK);
}

pub(super) fn conn_up_retries() {
    let idle = ("conn_up_idle", "5");
    let (few, many) =
        (silence(&[idle, ("conn_up_retries", "1")]).1, silence(&[idle, ("conn_up_retries", "4")]).1);
    near(many - few, 3 * 5 * TICK);
}

/// Packets of a message that alonzo sends before he hears of joseph, to whom he has sent enough to know the way; joseph
/// fell silent `later` ticks before.
fn at_once(options: &[(&str, &str)], later: u64) -> usize {
    let quiet = [("bind", "en0"), ("conn_up_idle", "1000"), ("tx_retries", "5"), ("mtu_en", "150")];
    let mut rig = Rig::new(&[&quiet, options].concat(), &[&quiet[..], &[("allow", "connect")]].concat());
    let at = rig.connect();
    rig.wire = (false, false);
    let client = rig.send(at, 10);
    assert!(rig.finish(client).is_err());
    rig.wire = (true, true);
    rig.ticks(later);
    // The server gets both messages; its answer to the second is lost.
    let (at, _server) = rig.serve(2);
    let (go, client) = rig.send_twice(at, 8000);
    rig.ticks(2);
    rig.wire = (true, false);
    let before = rig.alonzo.frames(USER).len();
    go.send(()).unwrap();
    assert_eq!(rig.finish(client), libc::EHOSTDOWN);
    let frames = rig.alonzo.frames(USER).split_off(before);
    // Before any of it is taken for lost; where each fragment stands in the stream, so that none counts twice.
    let first = frames.iter().filter(|sent| sent.at <= frames[0].at + 2 * STEP);
    first.map(|sent| &sent.frame[40..44]).collect::<BTreeSet<&[u8]>>().len()
}

pub(super) fn slow_mode() {
    let (never, slow) = (at_once(&[("slow_mode", "0")], 10), at_once(&[], 10));
    assert!(slow < never, "{slow} packets at once, and {never} without slow mode");
    assert_eq!(at_once(&[("slow_mode", "5")], 30), never, "it is forgotten in time");
}

pub(super) fn probe_no_l4_time() {
    // joseph has the other interface only, so this one never hears of him.
    let searched = |options: &[(&str, &str)]| {
        let mut rig = Rig::new(
            &[&[("auto_add", "0")], options].concat(),
            &[("auto_add", "0"), ("bind", "en0"), ("allow", "connect")],
        );
        rig.connect();
        let before = rig.alonzo.frames(RESOLVE).len();
        rig.ticks(130);
        let mut frames = rig.alonzo.frames(RESOLVE).split_off(before);
        frames.retain(|sent| sent.interface == EN1);
        gaps(&frames)
    };
    let (often, seldom) = (searched(&[("probe_no_l4_time", "10")]), searched(&[]));
    assert!(often.len() >= 10 && !seldom.is_empty(), "{often:?} {seldom:?}");
    often.iter().for_each(|gap| near(*gap, 10 * TICK));
    seldom.iter().for_each(|gap| near(*gap, 50 * TICK));
}
