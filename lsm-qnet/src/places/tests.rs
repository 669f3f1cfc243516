//! The options' order, defaults and combinations.

use super::*;

fn read(options: &str, domain: &str) -> Result<Places, String> {
    let pairs: Vec<_> = options.split(',').filter_map(|option| option.split_once('=')).collect();
    let domain = Domain::new(domain).unwrap();
    Places::read(pairs.into_iter(), "/net", &domain).map_err(|error| error.text().to_owned())
}

/// `path: domain>resolvers …` for each directory; `-` is the node's own domain.
fn show(options: &str, domain: &str) -> Vec<String> {
    let places = read(options, domain).unwrap_or_else(|error| panic!("{options}: {error}"));
    let resolver = |resolver: &Resolver| match resolver {
        Resolver::Lan => "lan".to_owned(),
        Resolver::External(index) => match &places.resolvers[*index as usize] {
            External::File(path) => format!("file {}", path.display()),
            External::Dns => "dns".to_owned(),
            External::Module(name, parameter) => format!("nr-{name}({parameter})"),
        },
    };
    let zone = |zone: &Zone| {
        let resolvers: Vec<_> = zone.resolvers.iter().map(resolver).collect();
        format!("{}>{}", zone.domain.as_ref().map_or("-", Domain::as_str), resolvers.join("+"))
    };
    let directory = |place: &Place| {
        let zones: Vec<_> = place.directory.zones.iter().map(zone).collect();
        format!("{}: {}", place.path.display(), zones.join(" "))
    };
    places.places.iter().map(directory).collect()
}

#[test]
fn without_options_there_is_net_and_the_lan() {
    assert_eq!(show("", "lab"), ["/net: ->lan"]);
    assert_eq!(read("", "").unwrap().carrier, Carrier::Ethernet(vec![]));
}

#[test]
fn a_mount_takes_the_resolvers_before_it_and_the_next_one_begins_anew() {
    let options = "resolve=file,resolve=ndp,mount=/x,mount=/y,resolve=file:/z/hosts,mount=/z";
    assert_eq!(
        show(options, "lab"),
        ["/x: ->file /etc/qnet_hosts+lan", "/y: ->file /etc/qnet_hosts+lan", "/z: ->file /z/hosts"]
    );
    assert_eq!(show("resolve=static:a=b", "lab"), ["/net: ->nr-static(a=b)"]);
}

#[test]
fn further_directories_are_of_the_nodes_domain_or_of_their_path() {
    assert_eq!(
        show("mount=/net,mount=/net/outside/canada", "lab"),
        ["/net: ->lan", "/net/outside/canada: ->lan"]
    );
    assert_eq!(
        show("mount=/net,mount=/net/outside/canada", ""),
        ["/net: ->lan", "/net/outside/canada: canada.outside.net>lan"]
    );
    assert_eq!(show("mount=/a:one,mount=/b:.two:three", ""), ["/a: one>lan", "/b: two>lan three>lan"]);
}

#[test]
fn an_empty_directory_is_the_default_one_and_domains_can_be_added_to_it() {
    let options = "resolve=dns,mount=:,mount=.com:.net:.edu,bind=ip";
    assert_eq!(show(options, "lab"), ["/net: ->dns com>dns net>dns edu>dns"]);
    assert_eq!(show("mount=/net/,mount=/net:works", "lab"), ["/net: ->lan works>lan"]);
}

#[test]
fn carriers_are_interfaces_or_the_internet_protocol() {
    let carrier = |options| read(options, "").unwrap().carrier;
    assert_eq!(carrier("bind=en0,bind=en2"), Carrier::Ethernet(vec!["en0".into(), "en2".into()]));
    assert_eq!(carrier("bind=ip,resolve=dns"), Carrier::Ip);
    assert_eq!(carrier("bind=udp,resolve=dns"), Carrier::Udp(UDP_PORT));
    assert_eq!(carrier("bind=udp:4000,resolve=static"), Carrier::Udp(4000));
}

#[test]
fn what_does_not_go_together_is_refused_with_both_names() {
    for (options, sentence) in [
        ("bind=en0,resolve=dns", "resolve=dns with bind=en0: it finds addresses of the Internet protocol"),
        ("resolve=dns", "resolve=dns: it finds addresses of the Internet protocol"),
        ("bind=ip", "bind=ip: needs resolve=dns; the resolver en_ionet finds nodes on Ethernet only"),
        ("bind=ip,resolve=dns,resolve=ndp", "bind=ip: needs resolve=dns; the resolver ndp finds"),
        ("bind=ip,resolve=file", "bind=ip: resolve=file does not go together with it"),
        ("bind=udp,resolve=dns,resolve=file:/h", "bind=udp: resolve=file:/h does not go together"),
        ("bind=ip,resolve=dns,bind=en0", "bind=ip: does not go together with bind=en0"),
        ("bind=ip,bind=udp,resolve=dns", "bind=udp: does not go together with bind=ip"),
    ] {
        let error = read(options, "lab").unwrap_err();
        assert!(error.starts_with(sentence), "{options}: {error}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_option() {
    for (options, sentence) in [
        ("mount=net", "mount=net: an absolute path"),
        ("mount=/net:a b", "mount=/net:a b: `a b` is no node name"),
        ("mount=/a,mount=/b c", "mount=/b c: the path gives no domain"),
        ("resolve=", "resolve=: en_ionet, ndp, dns"),
        ("resolve=../x", "resolve=../x: en_ionet, ndp, dns"),
        ("resolve=file:hosts", "resolve=file:hosts: an absolute path"),
        ("resolve=dns:1.1.1.1", "resolve=dns:1.1.1.1: dns takes no parameter"),
        ("resolve=ndp,resolve=en_ionet", "resolve=en_ionet: it is in the list already"),
        ("mount=/net,resolve=file", "resolve=file: no mount= follows"),
        ("bind=udp:0", "bind=udp:0: a port from 1 to 65535"),
        ("bind=en0:1", "bind=en0:1: an interface such as en0"),
    ] {
        let error = read(options, "").unwrap_err();
        assert!(error.starts_with(sentence), "{options}: {error}");
    }
}
