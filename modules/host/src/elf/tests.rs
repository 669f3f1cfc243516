//! Files that are no modules, judged by their bytes. Whole modules are judged in `modules/conformance`.

use super::*;

fn own_program() -> Vec<u8> {
    std::fs::read("/proc/self/exe").unwrap()
}

fn whole(bytes: &[u8]) -> Result<ElfFacts, ElfError> {
    inspect(bytes, bytes.len() as u64)
}

#[test]
fn the_loaded_part_is_judged_as_the_whole_file_is() {
    let file = own_program();
    let part = loaded_part(&file[..16 << 10]).unwrap();
    assert!(part < file.len() as u64, "debugging information lies behind");
    assert_eq!(inspect(&file[..part as usize], file.len() as u64).unwrap_err(), ElfError::NoNote);
    // The section headers at the end tell that a file was cut short, although they are not read.
    let error = inspect(&file[..part as usize], part).unwrap_err();
    assert!(matches!(error, ElfError::Truncated { .. }), "{error}");
    assert_eq!(loaded_part(b"text"), None);
}

#[test]
fn text_and_nothing_are_not_elf() {
    assert_eq!(whole(b"").unwrap_err().to_string(), "expected an ELF shared object, found an empty file");
    assert_eq!(
        whole(b"#!/bin/sh\nexit 0\n").unwrap_err().to_string(),
        "expected an ELF shared object, found a text file"
    );
    assert_eq!(whole(&[0; 100]).unwrap_err(), ElfError::NotElf("other data"));
}

#[test]
fn a_shared_object_without_the_note_is_no_module() {
    assert_eq!(whole(&own_program()).unwrap_err(), ElfError::NoNote);
}

#[test]
fn every_truncation_is_noticed() {
    let file = own_program();
    for len in [4, 5, 16, 63, 64, 100, 1000, file.len() / 2, file.len() - 1] {
        let error = whole(&file[..len]).unwrap_err();
        assert!(matches!(error, ElfError::Truncated { .. }), "{len} bytes: {error}");
        assert!(error.to_string().ends_with(&format!("found a file of {len} bytes: it is truncated")));
    }
}

#[test]
fn another_machine_class_or_type_is_named() {
    let patched = |at: usize, value: u8| {
        let mut bytes = own_program();
        bytes[at] = value;
        whole(&bytes).unwrap_err()
    };
    assert_eq!(patched(4, elf::ELFCLASS32), ElfError::Class("a 32-bit one"));
    assert_eq!(patched(5, elf::ELFDATA2MSB), ElfError::Class("the other byte order"));
    assert_eq!(patched(16, elf::ET_REL as u8), ElfError::Type("an object file (not linked)"));
    assert_eq!(patched(18, 8), ElfError::Machine { expected: MACHINE, found: 8 });
}

#[test]
fn any_single_wrong_byte_in_the_headers_is_survived() {
    let file = own_program();
    for at in 0..1024 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = file.clone();
            bytes.truncate(1 << 16);
            bytes[at] = value;
            // No panic, no endless loop; what the answer is depends on the byte.
            let _ = whole(&bytes);
        }
    }
}

#[test]
fn notes_lie_in_many_ways() {
    let good = note::ModuleNote::new("devn-x");
    let desc = |magic: u32, major: u16, minor: u16, name: &[u8]| {
        let mut bytes = magic.to_ne_bytes().to_vec();
        bytes.extend(major.to_ne_bytes());
        bytes.extend(minor.to_ne_bytes());
        bytes.extend(name);
        bytes.resize(NOTE_DESC, 0);
        bytes
    };
    assert_eq!(parse_note(&desc(note::MAGIC, ABI_MAJOR, 7, &good.name)), Ok(("devn-x".to_owned(), 7)));
    let bad = |bytes: &[u8]| parse_note(bytes).unwrap_err().to_string();
    assert_eq!(bad(&[0; 47]), "expected a sound io-pkt note, found 47 bytes instead of 48");
    assert!(bad(&desc(1, 1, 0, b"x")).contains("magic 0x00000001 instead of 0x4b504f49"));
    assert_eq!(
        bad(&desc(note::MAGIC, 2, 5, b"devn-y")),
        "expected module ABI major version 1, found 2.5 (module devn-y)"
    );
    for name in [&b""[..], b"a/b", b"a b", &[b'a'; 40]] {
        assert!(bad(&desc(note::MAGIC, 1, 0, name)).contains("a module name that is no word"));
    }
}
