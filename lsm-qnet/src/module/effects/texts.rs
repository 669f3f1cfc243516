//! Options whose effect is seen in the report, in the arguments of the helpers or in the log.

use super::rig::{Node, Rig};

fn report(node: &mut Node) -> String {
    node.bench.report("").unwrap()
}

fn runs_on(options: &[(&str, &str)]) -> String {
    let report = report(&mut Rig::alone(options).alonzo);
    report.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
}

pub(super) fn host() {
    assert_eq!(runs_on(&[("host", "karl")]), "karl");
    assert_eq!(runs_on(&[("host", "karl.lab.example")]), "karl.lab.example");
}

pub(super) fn domain() {
    assert_eq!(runs_on(&[("host", "karl"), ("domain", "works.example")]), "karl.works.example");
}

/// The arguments of each helper.
fn helpers(options: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
    let rig = Rig::alone(options);
    let started = rig.alonzo.bench.host().helpers();
    started.into_iter().map(|helper| (helper.program, helper.args)).collect()
}

pub(super) fn mount() {
    let place = tempfile::tempdir().unwrap();
    let dir = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (one, two) = (dir("one"), dir("two"));
    let started = helpers(&[("mount", &one), ("mount", &format!("{two}:works.example"))]);
    let mounts = started.iter().filter(|(program, _)| program == "qnet-netfs");
    let mounts: Vec<&String> = mounts.map(|(_, args)| &args[args.len() - 2]).collect();
    assert_eq!(mounts, [&one, &two]);
}

pub(super) fn export() {
    let server = |options: &[(&str, &str)]| helpers(options).swap_remove(0).1;
    assert!(!server(&[]).contains(&"--only".to_owned()));
    let args = server(&[("export", "/usr:ro"), ("export", "/tmp")]);
    assert_eq!(args[2..], ["--only", "/usr:ro", "--only", "/tmp"]);
}

/// Whether `qnet-netfs` is told `value` for `option`, with these options of Qnet.
fn netfs_is_told(options: &[(&str, &str)], option: &str, value: &str) -> bool {
    let started = helpers(options);
    let netfs = started.iter().find(|(program, _)| program == "qnet-netfs").expect("it serves /net");
    netfs.1.windows(2).any(|pair| pair == [option, value])
}

pub(super) fn symlinks() {
    assert!(!netfs_is_told(&[], "--symlinks", "verbatim"));
    assert!(netfs_is_told(&[("symlinks", "verbatim")], "--symlinks", "verbatim"));
}

pub(super) fn cache() {
    assert!(!netfs_is_told(&[], "--cache", "none"));
    assert!(netfs_is_told(&[("cache", "none")], "--cache", "none"));
}

/// Levels of the lines about a session that begins: 3 is shown, 4 is for debugging.
fn levels(options: &[(&str, &str)]) -> Vec<u32> {
    let mut rig = Rig::new(options, &[("allow", "connect")]);
    rig.connect();
    rig.alonzo.said("session with joseph is up").iter().map(|line| line.level).collect()
}

pub(super) fn qos_verbose() {
    assert_eq!(levels(&[]), [4]);
    assert_eq!(levels(&[("qos_verbose", "0")]), [4]);
    assert_eq!(levels(&[("qos_verbose", "1")]), [3]);
    let of_paths = |level: &str| {
        let mut rig = Rig::new(&[("qos_verbose", level)], &[("allow", "connect")]);
        // Two silent ticks at its end: what happens between two looks at the paths is told without a further frame.
        rig.connect();
        rig.alonzo.said("node joseph answers over en0, at ").len()
    };
    assert_eq!([of_paths("1"), of_paths("2")], [0, 1]);
}

pub(super) fn verbose() {
    assert_eq!(levels(&[("verbose", "1")]), [3]);
    let of_nodes = |options: &[(&str, &str)]| {
        let mut rig = Rig::new(options, &[("allow", "connect")]);
        rig.connect();
        rig.alonzo.said("node joseph came into the list").len()
    };
    assert_eq!([of_nodes(&[("qos_verbose", "2")]), of_nodes(&[("verbose", "1")])], [0, 1]);
}

/// An option that changes nothing says so, once.
fn says_so(option: &str, value: &str) {
    let told = |options: &[(&str, &str)]| {
        let rig = Rig::alone(options);
        rig.alonzo.said("changes nothing").iter().map(|line| line.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(&[]), [""; 0]);
    let lines = told(&[(option, value)]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with(&format!("{option}={value} changes nothing: ")), "{}", lines[0]);
}

pub(super) fn no_slog() {
    says_so("no_slog", "1");
}

pub(super) fn qos_per_pri() {
    says_so("qos_per_pri", "10");
}

pub(super) fn qos_tx_pri() {
    says_so("qos_tx_pri", "10");
}

pub(super) fn ret_drvr_rx_buf() {
    says_so("ret_drvr_rx_buf", "1");
}
