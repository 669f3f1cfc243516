//! QNX's spellings and ours, read as a shell would hand them over.
//!
//! Each test is a property that scripts rely on: glued and separate names, the order of mounts, what is refused and
//! with which words.

use super::*;

fn line(text: &str) -> Result<Args, String> {
    parse(text.split_whitespace().map(OsString::from)).map_err(|e| e.to_string())
}

fn mounts(text: &str) -> Vec<(Kind, String, String)> {
    let args = line(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    args.mounts.into_iter().map(|m| (m.kind, m.name, m.options)).collect()
}

fn driver(name: &str, options: &str) -> (Kind, String, String) {
    (Kind::Driver, name.into(), options.into())
}

fn protocol(name: &str, options: &str) -> (Kind, String, String) {
    (Kind::Protocol, name.into(), options.into())
}

#[test]
fn nothing_mounted_is_fine() {
    let args = line("io-pkt").unwrap();
    assert_eq!(args.mounts, []);
    assert_eq!((args.instance, args.verbose, args.background, args.check), (0, 0, false, false));
    assert_eq!(args.pool, PoolConfig::default());
}

#[test]
fn names_may_be_glued_or_apart_with_and_without_options() {
    let expected = [driver("packet", "dev=eth1,mtu=1514"), protocol("qnet", "")];
    for text in [
        "io-pkt -d packet dev=eth1,mtu=1514 -p qnet",
        "io-pkt -dpacket dev=eth1,mtu=1514 -pqnet",
        "io-pkt -dpacket dev=eth1,mtu=1514 -p qnet -v",
        "/usr/sbin/io-pkt -v -d packet dev=eth1,mtu=1514 -i 0 -pqnet",
    ] {
        assert_eq!(mounts(text), expected, "{text}");
    }
}

#[test]
fn drivers_and_protocols_keep_the_order_of_the_command_line() {
    assert_eq!(
        mounts("io-pkt -pbridge ports=en0 -dtap -d tap dev=t -p qnet host=a,domain=b -dsegment"),
        [
            protocol("bridge", "ports=en0"),
            driver("tap", ""),
            driver("tap", "dev=t"),
            protocol("qnet", "host=a,domain=b"),
            driver("segment", "")
        ]
    );
}

#[test]
fn paths_are_names() {
    assert_eq!(mounts("io-pkt -d./devn-x.so a"), [driver("./devn-x.so", "a")]);
    assert_eq!(mounts("io-pkt -d /lib/dll/devn-x.so"), [driver("/lib/dll/devn-x.so", "")]);
}

#[test]
fn a_third_word_belongs_to_nobody() {
    let error = line("io-pkt -d packet dev=eth1 promiscuous").unwrap_err();
    assert!(error.contains("'promiscuous'"), "{error}");
    assert!(line("io-pkt stray").is_err());
}

#[test]
fn a_missing_name_is_an_error() {
    assert!(line("io-pkt -d").unwrap_err().contains("DRIVER"));
    assert!(line("io-pkt -d -p qnet").is_err());
}

#[test]
fn instance_and_priority_are_numbers_in_range() {
    let args = line("io-pkt -i1 -P 10 -vv").unwrap();
    assert_eq!((args.instance, args.priority, args.verbose), (1, Some(10), 2));
    for wrong in ["io-pkt -i x", "io-pkt -i -1", "io-pkt -P 0", "io-pkt -P 64", "io-pkt -i"] {
        assert!(line(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn packet_threads_are_counted_from_one() {
    assert_eq!(line("io-pkt").unwrap().threads, 1);
    assert_eq!(line("io-pkt -t4").unwrap().threads, 4);
    for wrong in ["io-pkt -t 0", "io-pkt -t 65", "io-pkt -t x", "io-pkt -t 99999999999"] {
        let error = line(wrong).unwrap_err().to_string();
        assert!(error.contains("'-t <N>'") && error.contains("from 1 to 64"), "{wrong}: {error}");
    }
}

#[test]
fn qnx_names_go_to_the_background_unless_told_otherwise() {
    assert!(!line("io-pkt").unwrap().background);
    assert!(line("io-pkt --background").unwrap().background);
    for name in QNX_NAMES {
        assert!(line(&format!("/sbin/{name}")).unwrap().background, "{name}");
        assert!(!line(&format!("{name} --foreground")).unwrap().background, "{name}");
    }
    assert!(!line("io-pkt --background --foreground").unwrap().background);
}

#[test]
fn qnx_options_without_meaning_here_are_accepted_and_remembered() {
    assert_eq!(line("io-pkt-v4-hc -S -I").unwrap().ignored, ['S', 'I']);
}

#[test]
fn help_shows_every_example() {
    let help = line("io-pkt --help").unwrap_err();
    for part in ["-d packet dev=eth1 -p qnet", "io-pkt -i1", "--check", "IO_PKT_MODULE_PATH", "-P <PRIO>"] {
        assert!(help.contains(part), "{part}\n{help}");
    }
}
