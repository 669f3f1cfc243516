//! What an installation looks like, from a build whose files are empty.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_prefix_of_the_users_is_found_at_run_time_one_of_the_system_is_not_named() {
    assert!(pkg_config(Path::new("/opt/qnet"), "1.0").contains("-Wl,-rpath,${libdir}"));
    assert!(!pkg_config(Path::new("/usr/local"), "1.0").contains("rpath"));
}

/// Installs a build with all files of this workspace, each holding its own name; gives the prefix.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let workspace = Workspace::load().expect("cargo metadata");
    let layout = Layout { built: folder.path().join("built"), prefix: folder.path().join("prefix") };
    fs::create_dir(&layout.built).expect("a folder");
    for package in &workspace.packages {
        let libraries = package.targets_of("cdylib").map(|name| format!("lib{}.so", name.replace('-', "_")));
        for file in package.targets_of("bin").map(str::to_owned).chain(libraries) {
            fs::write(layout.built.join(&file), &file).expect("a file");
        }
    }
    layout.everything(&workspace).expect("it installs");
    // A second time over the first, as an upgrade does.
    layout.everything(&workspace).expect("it installs again");
    folder
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o777
}

#[test]
fn programs_lie_in_bin_with_qnxs_names_as_links_to_them() {
    let folder = installed();
    let bin = folder.path().join("prefix/bin");
    let found = names(&bin);
    for program in [
        "io-pkt",
        "qnx-mount",
        "qnx-umount",
        "qnx-slay",
        "nicinfo",
        "pidin",
        "waitfor",
        "qnetstats",
        "qnet-ping",
        "qnet-tty",
        "qnet-lab",
    ] {
        assert!(found.contains(program), "{program}: {found:?}");
        assert_eq!(mode(&bin.join(program)), 0o755, "{program}");
    }
    let developers = ["xtask", "fuzz", "qnet-server", "qnet-netfs"];
    assert!(developers.iter().all(|program| !found.contains(*program)), "{found:?}");
    for (name, program) in QNX_NAMES.iter().filter(|(_, program)| found.contains(*program)) {
        assert_eq!(fs::read_to_string(bin.join(name)).ok().as_deref(), Some(*program), "{name}");
    }
    let helper = folder.path().join("prefix/sbin/mount.io-pkt");
    assert_eq!(
        fs::read_to_string(helper).ok().as_deref(),
        Some("qnx-mount"),
        "the link leads to the program"
    );
}

#[test]
fn modules_have_their_shipped_names_beside_the_helpers() {
    let folder = installed();
    let modules = folder.path().join("prefix/lib/io-pkt");
    let found = names(&modules);
    for module in [
        "devn-packet.so",
        "devn-tap.so",
        "devn-segment.so",
        "devn-pcap.so",
        "lsm-qnet.so",
        "lsm-bridge.so",
        "nr-static.so",
    ] {
        assert!(found.contains(module), "{module}: {found:?}");
        assert_eq!(mode(&modules.join(module)), 0o644, "{module}");
    }
    assert!(HELPERS.iter().all(|helper| mode(&modules.join(helper)) == 0o755));
    assert!(!found.contains("devn-template.so"), "an example for developers");
    assert!(found.iter().all(|name| !name.ends_with(".new")), "{found:?}");
}

#[test]
fn a_c_program_finds_library_and_headers() {
    let folder = installed();
    let prefix = folder.path().join("prefix");
    let (_, linked, soname) = C_LIBRARY;
    let library = fs::read_to_string(prefix.join("lib").join(soname)).expect("the library");
    assert_eq!(fs::read_to_string(prefix.join("lib").join(linked)).ok(), Some(library), "by both names");
    assert!(prefix.join("include/io_pkt_module.h").exists());
    let headers = names(&prefix.join("include/qnet/sys"));
    assert!(headers.contains("neutrino.h") && headers.contains("netmgr.h"), "{headers:?}");
    let text = fs::read_to_string(prefix.join("lib/pkgconfig/qnet.pc")).expect("qnet.pc");
    assert!(text.contains(&format!("prefix={}\n", prefix.display())) && text.contains("-lqnet"), "{text}");
}

#[test]
fn every_program_has_its_page_under_each_of_its_names() {
    let folder = installed();
    let prefix = folder.path().join("prefix");
    let pages: BTreeSet<String> = ["man1", "man5", "man7", "man8"]
        .iter()
        .flat_map(|section| names(&prefix.join("share/man").join(section)))
        .filter_map(|page| Some(page.rsplit_once('.')?.0.to_owned()))
        .collect();
    let programs = names(&prefix.join("bin"));
    let missing: Vec<&String> = programs.iter().filter(|program| !pages.contains(*program)).collect();
    assert!(missing.is_empty(), "no page for {missing:?}");
    let documents = names(&prefix.join("share/doc/io-pkt"));
    for document in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "qnx.md", "protocol.md"] {
        assert!(documents.contains(document), "{document}: {documents:?}");
    }
}
