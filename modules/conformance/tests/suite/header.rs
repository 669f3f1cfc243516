//! The C header says what the Rust sources say, and nobody changed what ABI 1.0 fixed.

use std::{fmt::Write, process::Command};

use conformance::layout::layouts;
use io_pkt_abi::{frame, handshake, info, note, resolver, table};

use crate::common::workshop;

/// What ABI 1.0 fixed. Lines may be added to the present list, never changed.
const FROZEN: &str = include_str!("../../frozen/layout_1_0.txt");

/// Constants of the header, with their values in Rust.
fn constants() -> Vec<(&'static str, u64)> {
    vec![
        ("IO_PKT_ABI_MAJOR", io_pkt_abi::ABI_MAJOR.into()),
        ("IO_PKT_ABI_MINOR", io_pkt_abi::ABI_MINOR.into()),
        ("IO_PKT_NOTE_TYPE", note::TYPE.into()),
        ("IO_PKT_NOTE_MAGIC", note::MAGIC.into()),
        ("IO_PKT_NOTE_NAME_LEN", note::NAME_LEN as u64),
        ("IO_PKT_FRAME_CONTINUES", frame::FLAG_CONTINUES.into()),
        ("IO_PKT_FRAME_SHARED", frame::FLAG_SHARED.into()),
        ("IO_PKT_REGION_POOL", frame::REGION_POOL.into()),
        ("IO_PKT_UNKNOWN", info::UNKNOWN),
        ("IO_PKT_OPTION_FLAG", info::option_kind::FLAG.into()),
        ("IO_PKT_OPTION_NUMBER", info::option_kind::NUMBER.into()),
        ("IO_PKT_OPTION_TEXT", info::option_kind::TEXT.into()),
        ("IO_PKT_OPTION_MAC", info::option_kind::MAC.into()),
        ("IO_PKT_OPTION_CHOICE", info::option_kind::CHOICE.into()),
        ("IO_PKT_IF_LINK_UP", info::IF_LINK_UP.into()),
        ("IO_PKT_IF_PROMISCUOUS", info::IF_PROMISCUOUS.into()),
        ("IO_PKT_IF_MULTICAST", info::IF_MULTICAST.into()),
        ("IO_PKT_IF_FULL_DUPLEX", info::IF_FULL_DUPLEX.into()),
        ("IO_PKT_EVENT_ARRIVED", info::EVENT_ARRIVED.into()),
        ("IO_PKT_EVENT_CHANGED", info::EVENT_CHANGED.into()),
        ("IO_PKT_EVENT_GONE", info::EVENT_GONE.into()),
        ("IO_PKT_READY_READ", info::READY_READ.into()),
        ("IO_PKT_READY_WRITE", info::READY_WRITE.into()),
        ("IO_PKT_READY_ERROR", info::READY_ERROR.into()),
        ("IO_PKT_READY_HELPER_EXIT", info::READY_HELPER_EXIT.into()),
        ("IO_PKT_READY_WAKE", info::READY_WAKE.into()),
        ("IO_PKT_READY_DEADLINE", info::READY_DEADLINE.into()),
        ("IO_PKT_INTEREST_READ", info::INTEREST_READ.into()),
        ("IO_PKT_INTEREST_WRITE", info::INTEREST_WRITE.into()),
        ("IO_PKT_CAP_UNMOUNTABLE", table::CAP_UNMOUNTABLE),
        ("IO_PKT_CAP_PARALLEL", table::CAP_PARALLEL),
        ("IO_PKT_CAP_SINGLE", table::CAP_SINGLE),
        ("IO_PKT_HANDSHAKE_MAGIC", handshake::HANDSHAKE_MAGIC),
        ("IO_PKT_KIND_DRIVER", handshake::KIND_DRIVER.into()),
        ("IO_PKT_KIND_PROTOCOL", handshake::KIND_PROTOCOL.into()),
        ("IO_PKT_KIND_RESOLVER", handshake::KIND_RESOLVER.into()),
        ("IO_PKT_FAMILY_MAC", resolver::FAMILY_MAC.into()),
        ("IO_PKT_FAMILY_IPV4", resolver::FAMILY_IPV4.into()),
        ("IO_PKT_FAMILY_IPV6", resolver::FAMILY_IPV6.into()),
    ]
}

#[test]
fn the_c_header_has_the_layout_of_the_rust_structures() {
    let (mut program, mut expected) = (String::new(), String::new());
    program.push_str(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"io_pkt_module.h\"\nint main(void)\n{\n",
    );
    for layout in layouts() {
        let (name, c_name) = (layout.name, layout.c_name);
        writeln!(program, "printf(\"{name} size %zu\\n\", sizeof(struct {c_name}));").unwrap();
        for (field, _) in &layout.fields {
            writeln!(program, "printf(\"{name}.{field} %zu\\n\", offsetof(struct {c_name}, {field}));")
                .unwrap();
        }
        expected.extend(layout.lines().into_iter().map(|line| line + "\n"));
    }
    for (name, value) in constants() {
        writeln!(program, "printf(\"{name} %llu\\n\", (unsigned long long){name});").unwrap();
        writeln!(expected, "{name} {value}").unwrap();
    }
    program.push_str("return 0;\n}\n");
    let program = workshop().c_program("layout", &program).unwrap_or_else(|error| panic!("{error}"));
    let output = Command::new(program).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn the_header_names_no_structure_that_rust_does_not_have() {
    let header =
        std::fs::read_to_string(conformance::workshop::include_dir().join("io_pkt_module.h")).unwrap();
    let defined = header.lines().filter_map(|line| line.strip_prefix("struct ")?.strip_suffix(" {"));
    let mut defined: Vec<_> = defined.collect();
    let mut known: Vec<_> = layouts().iter().map(|layout| layout.c_name).collect();
    defined.sort_unstable();
    known.sort_unstable();
    assert_eq!(defined, known);
    let constants = constants();
    let macros = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split_whitespace().next());
    let unknown: Vec<_> = macros
        .filter(|name| !name.contains('(') && constants.iter().all(|(known, _)| known != name))
        .filter(|name| !matches!(*name, "IO_PKT_MODULE_H" | "IO_PKT_NOTE_SECTION"))
        .collect();
    assert!(unknown.is_empty(), "constants that no test compares: {unknown:?}");
}

#[test]
fn what_abi_1_0_fixed_is_unchanged() {
    // Sizes of tables and of structures that carry their size may grow; offsets may not move.
    let growing = |line: &str| {
        line.split_once(" size ").map(|(name, size)| (name.to_owned(), size.parse::<usize>().unwrap()))
    };
    let present: Vec<String> = layouts().iter().flat_map(conformance::layout::Layout::lines).collect();
    for line in FROZEN.lines().filter(|line| !line.is_empty()) {
        match growing(line) {
            Some((name, size)) => {
                let now = present.iter().filter_map(|line| growing(line)).find(|(other, _)| *other == name);
                let (_, now) = now.unwrap_or_else(|| panic!("{name} is gone"));
                assert!(now >= size, "{name} shrank from {size} to {now}");
            }
            None => assert!(present.iter().any(|now| now == line), "{line} has changed"),
        }
    }
}

#[test]
fn the_document_quotes_the_numbers_of_the_code() {
    let document = include_str!("../../../../docs/abi.md");
    let version = format!("| {}.{} |", io_pkt_abi::ABI_MAJOR, io_pkt_abi::ABI_MINOR);
    assert!(document.contains(&version), "docs/abi.md: the history lacks {version}");
    for quoted in [
        format!("There is a limit of {} builds in one process.", io_pkt_host::MAX_BUILDS),
        format!("|   7    |   {}   | 0x{:04x} |", size_of::<note::ModuleNote>() - 20, note::TYPE),
        format!("NUL padded to {} bytes", note::NAME_LEN),
        format!("owns up to {} descriptors", io_pkt_sdk::BATCH),
    ] {
        assert!(document.contains(&quoted), "docs/abi.md should say: {quoted}");
    }
}
