//! What operators type, and what they are told.

use super::*;

fn option(name: &str, kind: OptionKind) -> OptionInfo {
    OptionInfo { name: name.to_owned(), help: String::new(), kind, repeats: false }
}

fn own() -> Vec<OptionInfo> {
    vec![
        option("dev", OptionKind::Text),
        option("ring", OptionKind::Number { min: 64, max: 4096 }),
        option("offload", OptionKind::Choice(vec!["off".to_owned(), "keep".to_owned()])),
        OptionInfo { repeats: true, ..option("port", OptionKind::Text) },
    ]
}

fn driver(text: &str) -> Result<Accepted, String> {
    accept_driver("devn-x", &own(), &parse(text)).map_err(|error| error.to_string())
}

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn options_are_split_at_commas() {
    let given = parse("a,,b=1,c=x=y,d=");
    let shown: Vec<_> = given.iter().map(|given| (given.name.as_str(), given.value.as_deref())).collect();
    assert_eq!(shown, [("a", None), ("b", Some("1")), ("c", Some("x=y")), ("d", Some(""))]);
    assert!(parse("").is_empty());
}

#[test]
fn own_and_generic_options_are_passed_on() {
    let accepted = driver("dev=eth1,ring=0x100,promiscuous,nomulticast=0,mac=02:00-").unwrap_err();
    assert!(accepted.contains("option mac: expected a station's Ethernet address"), "{accepted}");
    let accepted = driver("dev=eth1,ring=0x100,promiscuous,nomulticast=0,mac=02:00:00:AB:cd:01").unwrap();
    assert_eq!(
        accepted.pass,
        pairs(&[
            ("dev", "eth1"),
            ("ring", "0x100"),
            ("promiscuous", "1"),
            ("nomulticast", "0"),
            ("mac", "020000abcd01"),
        ])
    );
}

#[test]
fn the_daemons_options_stay_with_the_daemon() {
    let accepted = driver("verbose,lan=3,uptype=wm").unwrap();
    assert_eq!((accepted.verbose, accepted.lan, accepted.uptype.as_deref()), (Some(1), Some(3), Some("wm")));
    assert!(accepted.pass.is_empty());
    assert_eq!(driver("verbose=4").unwrap().verbose, Some(4));
}

#[test]
fn a_modules_own_option_wins_over_a_generic_one() {
    let own = [option("mtu", OptionKind::Number { min: 1, max: 10 })];
    assert!(accept_driver("devn-x", &own, &parse("mtu=5")).is_ok());
    assert!(accept_driver("devn-x", &own, &parse("mtu=1514")).is_err());
}

#[test]
fn an_unknown_option_lists_the_known_ones() {
    assert_eq!(
        driver("del=1").unwrap_err(),
        "devn-x: unknown option \"del\"; known options: dev=TEXT, ring=N, offload=off|keep, port=TEXT, mac=MAC, mtu=N, \
         promiscuous, nomulticast, verbose=N, lan=N, uptype=TEXT"
    );
}

#[test]
fn a_wrong_value_is_told_with_what_is_accepted() {
    for (text, expected) in [
        ("ring=5000", "option ring: expected a number from 64 to 4096, found \"5000\""),
        ("ring=+64", "option ring: expected a number from 64 to 4096, found \"+64\""),
        ("ring=", "option ring: expected a number from 64 to 4096, found \"\""),
        ("ring", "option ring: expected a number from 64 to 4096, found nothing"),
        ("dev=", "option dev: expected a text that is not empty, found \"\""),
        ("offload=on", "option offload: expected one of off, keep, found \"on\""),
        ("promiscuous=yes", "option promiscuous: expected the bare word, or 0 or 1, found \"yes\""),
        ("uptype=../x", "option uptype: expected 1 to 8 lower-case letters, found \"../x\""),
        ("mtu=99999999999999999999", "option mtu: expected a number from 82 to 65535"),
    ] {
        let error = driver(text).unwrap_err();
        assert!(error.starts_with(&format!("devn-x: {expected}")), "{text}: {error}");
    }
}

#[test]
fn repetition_needs_permission() {
    assert_eq!(driver("port=a,port=b").unwrap().pass, pairs(&[("port", "a"), ("port", "b")]));
    assert_eq!(
        driver("dev=a,dev=b").unwrap_err(),
        "devn-x: option dev: expected once, found \"a\" and \"b\""
    );
}

#[test]
fn only_station_addresses_are_accepted() {
    for good in ["0200deadbeef", "02:00:de:ad:be:ef", "02-00-DE-AD-BE-EF"] {
        assert_eq!(mac(good).as_deref(), Some("0200deadbeef"));
    }
    for bad in [
        "",
        "0200deadbee",
        "02:00:de:ad-be:ef",
        "0200deadbeeg",
        "ffffffffffff",
        "000000000000",
        "010203040506",
    ] {
        assert_eq!(mac(bad), None, "{bad}");
    }
    assert_eq!(mac("\u{e9}2:00:de:ad:be:e"), None);
}

#[test]
fn protocols_have_no_generic_options() {
    let error = accept_protocol("lsm-x", &own(), &parse("mac=020000000001")).unwrap_err();
    assert!(error.to_string().contains("unknown option \"mac\""));
}
