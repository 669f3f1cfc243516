//! Copies a module's tables, no further than their size, and checks what can be checked of them.

use std::{
    mem::{MaybeUninit, offset_of},
    slice,
};

use io_pkt_abi::{ABI_MAJOR, DriverTable, Header, OptionSpec, ProtocolTable, ResolverTable};

use crate::{
    error::Refusal,
    handshake::text,
    options::{OptionInfo, OptionKind},
};

/// Bytes of a driver table of ABI 1.0. Frozen: later fields are optional.
const DRIVER_1_0: usize = offset_of!(DriverTable, destroy) + size_of::<usize>();
/// Bytes of a protocol table of ABI 1.0. Frozen.
const PROTOCOL_1_0: usize = offset_of!(ProtocolTable, destroy) + size_of::<usize>();
/// Bytes of a resolver table of ABI 1.1. Frozen.
const RESOLVER_1_1: usize = offset_of!(ResolverTable, destroy) + size_of::<usize>();
/// Most options that a module may declare.
const MAX_OPTIONS: u64 = 256;

/// Offsets of the functions that every driver has.
const DRIVER_FUNCTIONS: [usize; 7] = [
    offset_of!(DriverTable, create),
    offset_of!(DriverTable, start),
    offset_of!(DriverTable, poll),
    offset_of!(DriverTable, transmit),
    offset_of!(DriverTable, stats),
    offset_of!(DriverTable, stop),
    offset_of!(DriverTable, destroy),
];

/// Offsets of the functions that every protocol has.
const PROTOCOL_FUNCTIONS: [usize; 8] = [
    offset_of!(ProtocolTable, create),
    offset_of!(ProtocolTable, start),
    offset_of!(ProtocolTable, poll),
    offset_of!(ProtocolTable, receive),
    offset_of!(ProtocolTable, interface_event),
    offset_of!(ProtocolTable, report),
    offset_of!(ProtocolTable, stop),
    offset_of!(ProtocolTable, destroy),
];

/// Offsets of the functions that every resolver has.
const RESOLVER_FUNCTIONS: [usize; 3] = [
    offset_of!(ResolverTable, create),
    offset_of!(ResolverTable, resolve),
    offset_of!(ResolverTable, destroy),
];

/// Copies a driver's table.
///
/// # Safety
/// `header` is null or what the module's `get_table` returned for [`io_pkt_abi::handshake::KIND_DRIVER`].
pub(crate) unsafe fn driver(header: *const Header) -> Result<DriverTable, Refusal> {
    // SAFETY: by the caller's promise; the functions are the pointers at these offsets.
    unsafe { copy::<DriverTable>("driver", header, DRIVER_1_0, &DRIVER_FUNCTIONS) }
}

/// Copies a protocol's table.
///
/// # Safety
/// As [`driver`], for [`io_pkt_abi::handshake::KIND_PROTOCOL`].
pub(crate) unsafe fn protocol(header: *const Header) -> Result<ProtocolTable, Refusal> {
    // SAFETY: as above.
    unsafe { copy::<ProtocolTable>("protocol", header, PROTOCOL_1_0, &PROTOCOL_FUNCTIONS) }
}

/// Copies a resolver's table.
///
/// # Safety
/// As [`driver`], for [`io_pkt_abi::handshake::KIND_RESOLVER`].
pub(crate) unsafe fn resolver(header: *const Header) -> Result<ResolverTable, Refusal> {
    // SAFETY: as above.
    unsafe { copy::<ResolverTable>("resolver", header, RESOLVER_1_1, &RESOLVER_FUNCTIONS) }
}

/// # Safety
/// `header` is null or begins a table of `T`'s shape, valid for the bytes that it claims; a `T` whose bytes are zero is
/// valid but for the pointers at the offsets `functions`, all of which lie below `least`.
unsafe fn copy<T>(
    kind: &str,
    header: *const Header,
    least: usize,
    functions: &[usize],
) -> Result<T, Refusal> {
    // SAFETY: by the caller's promise. Alignment is checked first.
    let claims = unsafe { if header.is_aligned() { header.as_ref() } else { None } };
    let Some(claims) = claims else {
        return Err(Refusal::handshake(format!("a {kind} table"), "none, or one that is not aligned"));
    };
    let size = claims.size as usize;
    if claims.major != ABI_MAJOR {
        return Err(Refusal::handshake(
            format!("a {kind} table of major version {ABI_MAJOR}"),
            format!("{}.{}", claims.major, claims.minor),
        ));
    }
    if size < least {
        return Err(Refusal::handshake(
            format!("a {kind} table of at least {least} bytes"),
            format!("{size} bytes"),
        ));
    }
    let mut table = MaybeUninit::<T>::zeroed();
    let bytes = size.min(size_of::<T>());
    // SAFETY: `bytes` is no more than either side has.
    unsafe { std::ptr::copy_nonoverlapping(header.cast::<u8>(), table.as_mut_ptr().cast(), bytes) };
    for &offset in functions {
        // SAFETY: an aligned word inside the table, initialised by `zeroed` and the copy.
        let word = unsafe { table.as_ptr().byte_add(offset).cast::<usize>().read() };
        if word == 0 {
            return Err(Refusal::handshake(
                format!("a {kind} table with every function"),
                format!("a null pointer at offset {offset}"),
            ));
        }
    }
    // SAFETY: every required pointer is there; the rest may be zero by the caller's promise.
    Ok(unsafe { table.assume_init() })
}

/// Copies the list of options.
///
/// # Safety
/// `options` is valid for `count` elements that live as long as the module is mapped, as the ABI says.
pub(crate) unsafe fn options(options: *const OptionSpec, count: u64) -> Result<Vec<OptionInfo>, Refusal> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if options.is_null() || !options.is_aligned() || count > MAX_OPTIONS {
        return Err(Refusal::handshake(
            format!("a list of at most {MAX_OPTIONS} options"),
            format!("{count} at {options:p}"),
        ));
    }
    // SAFETY: aligned, not null, and valid by the caller's promise.
    let specs = unsafe { slice::from_raw_parts(options, count as usize) };
    specs
        .iter()
        .map(|spec| {
            // SAFETY: static texts of the module.
            let (name, help, choices) = unsafe { (text(spec.name)?, text(spec.help)?, text(spec.choices)?) };
            let kind = OptionKind::from_spec(spec, choices)
                .ok_or_else(|| Refusal::handshake("options of known kinds", format!("kind {}", spec.kind)))?;
            if name.is_empty() {
                return Err(Refusal::handshake("options with names", "one without"));
            }
            Ok(OptionInfo { name: name.to_owned(), help: help.to_owned(), kind, repeats: spec.repeats != 0 })
        })
        .collect()
}
