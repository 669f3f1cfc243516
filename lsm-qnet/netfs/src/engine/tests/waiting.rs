//! How long a request may take, and what a signal does to it.

use zerocopy::IntoBytes;

use super::bench::{ALIVE, Bench, DEADLINE, DIES, Heard, ended, regular};
use crate::{
    engine::interrupt::LOOK_AGAIN,
    fuse::{
        Opcode,
        abi::{FUSE_WRITE_CACHE, FsyncIn, OpenIn, WriteIn},
    },
};

/// A file that is open for writing; its handle.
fn open_file() -> (Bench, u64) {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let args = OpenIn { flags: libc::O_RDWR.cast_unsigned(), open_flags: 0 };
    let fh = bench.open_with(file, args, &regular(10, 10));
    (bench, fh)
}

fn write(bench: &mut Bench, fh: u64, write_flags: u32) -> u64 {
    let args = WriteIn { fh, size: 1, write_flags, ..WriteIn::default() };
    bench.ask(Opcode::Write, 0, &[args.as_bytes(), b"x"].concat())
}

#[test]
fn what_takes_its_time_over_there_has_no_deadline() {
    let (mut bench, fh) = open_file();
    bench.thread = ALIVE;
    let fsync = bench.ask(Opcode::Fsync, 0, FsyncIn { fh, ..FsyncIn::default() }.as_bytes());
    let written = write(&mut bench, fh, 0);
    let sends = bench.sends();
    bench.pass(10 * DEADLINE);
    bench.interrupt(fsync);
    bench.interrupt(written);
    bench.pass(LOOK_AGAIN);
    assert!(bench.answers().is_empty(), "nor does a signal that ends nobody end it");
    DIES.set(true);
    bench.pass(LOOK_AGAIN);
    DIES.set(false);
    let mut answers = bench.answers();
    answers.sort_by_key(|answer| answer.unique);
    assert_eq!(answers, [ended(fsync, libc::EINTR), ended(written, libc::EINTR)]);
    let told: Vec<_> =
        bench.heard().into_iter().filter(|heard| matches!(heard, Heard::Unblock { .. })).collect();
    assert_eq!(told.len(), sends.len());
}

#[test]
fn the_kernel_does_not_hang_over_pages_of_a_mapping() {
    let (mut bench, fh) = open_file();
    let unique = write(&mut bench, fh, FUSE_WRITE_CACHE);
    bench.pass(DEADLINE);
    assert_eq!(bench.answer(), ended(unique, libc::EHOSTDOWN));
}
