//! Two builds of the border held against each other by `abi_stable`, down to the arguments of every function.
//!
//! Names, offsets and sizes are compared in `header.rs`; this sees types as well: a `u32` that became an `i32`, an argument
//! that was added.

use std::{collections::BTreeMap, path::Path};

use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::{CheckingGlobals, check_layout_compatibility_with_globals},
    type_layout::TypeLayout,
};
use io_pkt_abi::{
    CreateArgs, DriverStats, DriverTable, HandshakeRef, HostTable, InterfaceEvent, ProtocolTable,
};
use libloading::Library;

use crate::common::module;

/// The structures in the order of `io_pkt_layout_of` in `frozen/echo_1_0.rs`.
fn present() -> [(&'static str, &'static TypeLayout); 7] {
    [
        ("HandshakeRef", HandshakeRef::LAYOUT),
        ("HostTable", HostTable::LAYOUT),
        ("DriverTable", DriverTable::LAYOUT),
        ("ProtocolTable", ProtocolTable::LAYOUT),
        ("CreateArgs", CreateArgs::LAYOUT),
        ("InterfaceEvent", InterfaceEvent::LAYOUT),
        ("DriverStats", DriverStats::LAYOUT),
    ]
}

/// What a module built from the frozen driver knows.
fn layouts_of(module: &Path) -> Vec<&'static TypeLayout> {
    // SAFETY: a module that was built by this test; it has no constructors.
    let library = unsafe { Library::new(module) }.expect("the module is mapped");
    // Its layouts are static data of the module.
    let library: &'static Library = Box::leak(Box::new(library));
    type LayoutOf = extern "C" fn(u32) -> Option<&'static TypeLayout>;
    // SAFETY: the type is the one in `frozen/echo_1_0.rs`.
    let layout_of = unsafe { library.get::<LayoutOf>(b"io_pkt_layout_of") }.expect("the frozen driver");
    (0..).map_while(|which| layout_of(which)).collect()
}

/// The structures that differ.
fn differing(theirs: &[&'static TypeLayout]) -> Vec<&'static str> {
    let differs = |(ours, theirs): (&'static TypeLayout, &'static TypeLayout)| {
        check_layout_compatibility_with_globals(ours, theirs, &CheckingGlobals::new()).is_err()
    };
    let pairs = present().into_iter().zip(theirs);
    pairs.filter(|((_, ours), theirs)| differs((ours, theirs))).map(|((name, _), _)| name).collect()
}

/// Everything that differs, in abi_stable's words, and how often it says so.
fn changes(theirs: &[&'static TypeLayout]) -> BTreeMap<String, usize> {
    let pairs = present().into_iter().zip(theirs);
    let errors = pairs.filter_map(|((_, ours), theirs)| {
        check_layout_compatibility_with_globals(ours, theirs, &CheckingGlobals::new()).err()
    });
    let text: String = errors.map(|errors| errors.to_string()).collect();
    let mut changes = BTreeMap::new();
    for change in text.lines().filter_map(|line| line.trim().strip_prefix("Error:")) {
        *changes.entry(change.to_owned()).or_default() += 1;
    }
    changes
}

#[test]
fn the_types_of_abi_1_0_are_unchanged() {
    let frozen = layouts_of(&module("frozen"));
    assert_eq!(frozen.len(), present().len());
    // When a table grows, it is expected here by name: abi_stable does not know that tables are read by their size.
    // 1.1 has one more function in the host's table, to which the arguments of every `create` point.
    assert_eq!(differing(&frozen), ["HostTable", "DriverTable", "ProtocolTable", "CreateArgs"]);
    // Once for each of the four, all of it about the host's table.
    let grown = [("incompatible type size", 4), ("too many fields", 4)];
    let grown = grown.map(|(change, times)| (change.to_owned(), times)).into();
    assert_eq!(changes(&frozen), grown, "nothing but that has changed");
}

#[test]
fn an_appended_field_is_noticed_by_the_comparison() {
    let (later, frozen) = (layouts_of(&module("later")), layouts_of(&module("frozen")));
    assert!(differing(&later).contains(&"DriverTable"));
    assert_ne!(changes(&later), changes(&frozen), "one table of it has a field that ours does not have");
}
