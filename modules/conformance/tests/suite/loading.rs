//! Files that are refused, and what becomes of those that are not. Issue text: "each gives one clear line".

use std::{fs, path::PathBuf, sync::Arc};

use conformance::forge::{forge, note_at};
use io_pkt_host::{Kind, LoadMode, Loader, Refusal};

use crate::common::{Driver, carries_frames, driver, loader, module, refusal, workshop};

/// A file with this text in the workshop.
fn file(name: &str, contents: &[u8]) -> PathBuf {
    let file = workshop().dir().join(name);
    fs::write(&file, contents).expect("a file in the workshop");
    file
}

#[test]
fn a_text_file_is_refused() {
    let text = refusal(&file("text.so", b"INPUT(libc.so.6)\n"));
    assert_eq!(text, "expected an ELF shared object, found a text file");
}

#[test]
fn an_empty_file_is_refused() {
    assert_eq!(refusal(&file("empty.so", b"")), "expected an ELF shared object, found an empty file");
}

#[test]
fn a_missing_file_is_refused() {
    let missing = workshop().dir().join("missing.so");
    assert_eq!(
        refusal(&missing),
        "expected a readable module file, the system says: No such file or directory"
    );
    assert_eq!(driver(&missing).unwrap_err().errno(), libc::ENOENT);
}

#[test]
fn a_directory_is_refused() {
    let dir = workshop().dir().join("directory.so");
    fs::create_dir_all(&dir).unwrap();
    assert_eq!(refusal(&dir), "expected a module file (.so), found a directory");
    assert_eq!(driver(&dir).unwrap_err().errno(), libc::EISDIR);
}

#[test]
fn a_fifo_and_a_device_are_refused_without_waiting() {
    let fifo = workshop().dir().join("fifo.so");
    let _ = fs::remove_file(&fifo);
    let path = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: a path with its NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    assert_eq!(refusal(&fifo), "expected a module file (.so), found a FIFO");
    assert_eq!(refusal("/dev/zero".as_ref()), "expected a module file (.so), found a device");
}

#[test]
fn a_truncated_module_is_refused_wherever_it_is_cut() {
    let whole = fs::metadata(module("echo")).unwrap().len() as usize;
    for len in [20, 64, 500, whole / 3, whole / 2, whole - 64, whole - 1] {
        let cut = forge(&module("echo"), "truncated.so", |bytes| bytes.truncate(len)).unwrap();
        let text = refusal(&cut);
        assert!(text.starts_with("expected "), "{text}");
        assert!(text.ends_with(&format!("found a file of {len} bytes: it is truncated")), "{text}");
    }
}

#[test]
fn a_wrong_magic_is_refused() {
    let wrong = forge(&module("echo"), "magic.so", |bytes| {
        let at = note_at(bytes).unwrap();
        bytes[at] = b'X';
    });
    let text = refusal(&wrong.unwrap());
    assert_eq!(text, "expected a sound io-pkt note, found magic 0x4b504f58 instead of 0x4b504f49");
}

#[test]
fn a_wrong_major_version_is_refused_before_its_code_runs() {
    let trace = workshop().dir().join("major.trace");
    let _ = fs::remove_file(&trace);
    let traced = format!("TRACE=\"{}\"", trace.display());
    let foreign = workshop().c_module("foreign.c", "major.so", &["NOTE=1", &traced]).unwrap();
    let wrong = forge(&foreign, "major-2.so", |bytes| {
        let at = note_at(bytes).unwrap();
        bytes[at + 4..at + 8].copy_from_slice(&[2, 0, 3, 0]);
    });
    let text = refusal(&wrong.unwrap());
    assert_eq!(text, "expected module ABI major version 1, found 2.3 (module devn-foreign)");
    assert!(!trace.exists(), "its constructor ran");
}

#[test]
fn a_foreign_shared_object_is_refused_before_its_constructors_run() {
    let trace = workshop().dir().join("foreign.trace");
    let _ = fs::remove_file(&trace);
    let traced = format!("TRACE=\"{}\"", trace.display());
    let foreign = workshop().c_module("foreign.c", "foreign.so", &[&traced]).unwrap();
    let text = refusal(&foreign);
    assert_eq!(
        text,
        "expected a shared object with an io-pkt note, found one without: it is not an io-pkt module"
    );
    assert!(!trace.exists(), "its constructor ran");
}

#[test]
fn a_note_without_an_entry_is_refused_and_not_mapped_again() {
    let trace = workshop().dir().join("entry.trace");
    let traced = format!("TRACE=\"{}\"", trace.display());
    let hollow = workshop().c_module("foreign.c", "hollow.so", &["NOTE=1", &traced]).unwrap();
    let expected = "expected a root module of abi_stable or the function io_pkt_module_entry, found neither";
    assert_eq!(refusal(&hollow), expected);
    fs::remove_file(&trace).unwrap();
    assert_eq!(refusal(&hollow), expected);
    assert!(!trace.exists(), "it was mapped a second time");
}

#[test]
fn a_note_that_contradicts_the_handshake_is_refused() {
    let renamed = forge(&module("echo"), "renamed.so", |bytes| {
        let at = note_at(bytes).unwrap();
        bytes[at + 8..at + 17].copy_from_slice(b"devn-ohce");
    });
    assert_eq!(
        refusal(&renamed.unwrap()),
        "expected module name \"devn-ohce\" in the handshake, as in the note, found \"devn-echo\""
    );
    let minor = forge(&module("frozen"), "minor.so", |bytes| {
        let at = note_at(bytes).unwrap();
        bytes[at + 6] = 9;
    });
    assert_eq!(
        refusal(&minor.unwrap()),
        "expected ABI version 1.9 in the handshake, as in the note, found 1.0"
    );
}

#[test]
fn a_missing_symbol_is_the_linkers_word() {
    let broken = forge(&module("echo"), "unresolved.so", |bytes| {
        // The name of a libc function that the driver calls, made into one that nobody has.
        let at = bytes.windows(8).position(|window| window == b"\0calloc\0").unwrap();
        bytes[at + 1..at + 7].copy_from_slice(b"callox");
    });
    let text = refusal(&broken.unwrap());
    assert!(text.starts_with("expected a file that the dynamic linker loads, found: "), "{text}");
    assert!(
        text.contains("callox") && text.contains("unresolved.so") && !text.contains("/proc/self"),
        "{text}"
    );
}

#[test]
fn a_driver_is_no_protocol() {
    let error = loader().load(Kind::Protocol, &module("echo")).unwrap_err();
    assert!(
        error.to_string().ends_with("expected a protocol, found devn-echo, which is a driver"),
        "{error}"
    );
    assert!(matches!(error.refusal, Refusal::Handshake { .. }));
}

#[test]
fn the_same_file_is_mapped_once_whatever_its_path() {
    let first = driver(&module("echo")).unwrap();
    let copy = forge(&module("echo"), "copy-of-echo.so", |_| {}).unwrap();
    let second = driver(&copy).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let open = fs::File::open(&copy).unwrap();
    fs::remove_file(&copy).unwrap();
    let third = loader().load_file(Kind::Driver, open, "handed-over.so".as_ref()).unwrap();
    assert!(Arc::ptr_eq(&first, &third));
}

#[test]
fn a_rebuilt_module_at_the_same_path_is_the_new_one() {
    let shop = workshop();
    let path = shop.c_module("echo.c", "rebuilt.so", &["BUILD=\"first\""]).unwrap();
    let first = driver(&path).unwrap();
    let mut old = Driver::start(&first, "").unwrap();
    shop.c_module("echo.c", "rebuilt.so", &["BUILD=\"second\""]).unwrap();
    let second = driver(&path).unwrap();
    assert_eq!((first.build_text(), second.build_text()), ("first", "second"));
    assert_ne!(first.range(), second.range());
    let mut new = Driver::start(&second, "").unwrap();
    carries_frames(&mut old);
    carries_frames(&mut new);
    old.end();
    carries_frames(&mut new);
    assert_eq!((first.uses(), second.uses()), (0, 1));
    new.end();
}

#[test]
fn a_build_tells_where_it_is_mapped() {
    let build = driver(&module("naughty")).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let range = build.range();
    let code = maps.lines().find(|line| line.contains("r-xp") && line.contains("devn-naughty"));
    let code = code.expect("the module's code in /proc/self/maps");
    let begin = usize::from_str_radix(code.split('-').next().unwrap(), 16).unwrap();
    assert!(range.contains(&begin), "{begin:x} outside {range:x?}");
    assert!(build.code_size() > 0 && build.data_size() > 0);
    assert!((build.code_size() + build.data_size()) as usize <= range.len());
    assert!(!build.build_id().is_empty());
    assert_eq!(
        (build.name(), build.language(), build.load_mode()),
        ("devn-naughty", "rust", LoadMode::Memfd)
    );
}

#[test]
fn the_path_itself_is_mapped_when_asked_for() {
    let path = forge(&module("echo"), "by-path.so", |bytes| bytes.extend([0; 16])).unwrap();
    let mut loader = Loader::new(LoadMode::Path);
    let build = loader.load(Kind::Driver, &path).unwrap();
    assert_eq!(build.load_mode(), LoadMode::Path);
    assert!(fs::read_to_string("/proc/self/maps").unwrap().contains("/by-path.so"));
    carries_frames(&mut Driver::start(&build, "").unwrap());
    // A descriptor whose path names nothing here, as from another mount namespace, is mapped all the same.
    let open = fs::File::open(forge(&module("echo"), "elsewhere.so", |bytes| bytes.extend([0; 48])).unwrap())
        .unwrap();
    let elsewhere = loader.load_file(Kind::Driver, open, "/nowhere/elsewhere.so".as_ref()).unwrap();
    carries_frames(&mut Driver::start(&elsewhere, "").unwrap());
    // A new file under the old name, as an installation makes it.
    fs::remove_file(&path).unwrap();
    forge(&module("echo"), "by-path.so", |bytes| bytes.extend([0; 32])).unwrap();
    let newer = loader.load(Kind::Driver, &path).unwrap();
    assert_ne!(build.range(), newer.range());
    carries_frames(&mut Driver::start(&newer, "").unwrap());
}

#[test]
fn there_is_a_limit_to_mapped_builds() {
    let mut loader = Loader::default();
    loader.set_max_builds(1);
    let one = forge(&module("echo"), "limit-1.so", |bytes| bytes.extend([1; 8])).unwrap();
    let two = forge(&module("echo"), "limit-2.so", |bytes| bytes.extend([2; 8])).unwrap();
    loader.load(Kind::Driver, &one).unwrap();
    let error = loader.load(Kind::Driver, &two).unwrap_err();
    assert!(error.to_string().contains("1 module builds are mapped already"), "{error}");
    assert!(loader.load(Kind::Driver, &one).is_ok());
}
