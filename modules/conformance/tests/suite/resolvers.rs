//! What every node resolver keeps: it answers, says what is wrong with its parameter, and writes no further than told.

use std::{ffi::c_void, ptr};

use io_pkt_abi::{
    Bytes, ResolverAddress, ResolverAnswer, ResolverArgs, ResolverQuery, ResolverTable, TextBuf,
};
use io_pkt_host::Build;

/// A parameter with which the resolver knows `joseph.lab`, with two addresses.
fn parameter(name: &str) -> &'static str {
    match name {
        "nr-static" => "joseph=02:00:00:00:00:01+10.0.0.1",
        other => panic!("{other}: give the suite a parameter for it"),
    }
}

extern "C" fn log(_ctx: *mut c_void, _level: u32, _text: Bytes) {}

/// Creates it; an error with its sentence.
fn create(table: &ResolverTable, parameter: &str) -> Result<*mut c_void, String> {
    let mut sentence = [0; 256];
    let mut room = TextBuf { ptr: sentence.as_mut_ptr(), cap: 256, len: 0 };
    let args = ResolverArgs {
        size: size_of::<ResolverArgs>() as u32,
        reserved: 0,
        parameter: Bytes::borrow(parameter.as_bytes()),
        domain: Bytes::from_static("lab"),
        log,
        ctx: ptr::null_mut(),
        error: &raw mut room,
    };
    let mut use_ = ptr::null_mut();
    // SAFETY: everything lives until the call returns, and `log` needs no context.
    match unsafe { (table.create)(&raw const args, &raw mut use_) } {
        0 => Ok(use_),
        code => {
            assert!(code < 0, "an errno is negative: {code}");
            Err(String::from_utf8(sentence[..room.len as usize].to_vec()).expect("a sentence is UTF-8"))
        }
    }
}

/// Asks with room for `cap` addresses: how many came, and what stands behind the room.
fn resolve(table: &ResolverTable, use_: *mut c_void, name: &str, cap: u32) -> (u32, ResolverAddress) {
    let untouched = ResolverAddress { family: 77, ..ResolverAddress::default() };
    let mut room = [untouched; 9];
    let query = ResolverQuery {
        size: size_of::<ResolverQuery>() as u32,
        reserved: 0,
        name: Bytes::borrow(name.as_bytes()),
        domain: Bytes::from_static("lab"),
    };
    let mut answer = ResolverAnswer {
        size: size_of::<ResolverAnswer>() as u32,
        cap,
        addresses: room.as_mut_ptr(),
        len: 99,
        reserved: 0,
    };
    // SAFETY: a living resolver; query and room live until the call returns, and `cap` is at most 8.
    let code = unsafe { (table.resolve)(use_, &raw const query, &raw mut answer) };
    assert_eq!(code, 0);
    (answer.len, room[cap as usize])
}

/// The suite for one build.
pub(crate) fn conforms(build: &Build) {
    let table = build.resolver().expect("a resolver's table");
    let sentence = create(&table, "").expect_err("no parameter");
    assert!(!sentence.is_empty(), "{}: an error has a sentence", build.name());
    let use_ = create(&table, parameter(build.name())).unwrap_or_else(|error| panic!("{error}"));
    let (len, behind) = resolve(&table, use_, "joseph", 8);
    assert_eq!((len, behind.family), (2, 77));
    let (len, behind) = resolve(&table, use_, "joseph", 1);
    assert_eq!((len, behind.family), (1, 77), "what does not fit is left out");
    assert_eq!(resolve(&table, use_, "nobody", 8).0, 0, "a node that is not known is no error");
    // SAFETY: made above, ended once.
    unsafe { (table.destroy)(use_) };
}
