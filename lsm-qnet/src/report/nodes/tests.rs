//! What is said of a node, in every state and after every end.

use qnet_proto::{Domain, DownReason, LinkAddr, NodeId, NodeName, PeerCounters};

use super::*;

const MAC: LinkAddr = LinkAddr::mac([2, 0, 0, 0, 0, 2]);

fn said(change: impl FnOnce(&mut NodeView<'_>)) -> String {
    said_of("joseph", change)
}

/// What is said of node joseph that calls itself `own`.
fn said_of(own: &str, change: impl FnOnce(&mut NodeView<'_>)) -> String {
    let own = NodeName::new(own).unwrap();
    let (name, domain) = (NodeName::new("joseph").unwrap(), Domain::new("lab").unwrap());
    let mut view = NodeView {
        nd: NodeId(3),
        name: &name,
        own_name: &own,
        domain: &domain,
        state: NodeState::Known,
        addresses: vec![(LinkId(1), MAC)],
        paths: Vec::new(),
        rtt: None,
        in_flight: 1,
        window: 2,
        queued: 3,
        extended: None,
        heard: Some(Instant::from_nanos(0)),
        up_since: None,
        clash: None,
        last_end: None,
        counters: PeerCounters::default(),
    };
    change(&mut view);
    let mut text = String::new();
    node(&mut text, &|_| "en0", &view, Instant::from_nanos(130_000_000_000)).unwrap();
    text
}

#[test]
fn times_are_told_in_their_two_largest_units() {
    let told = |seconds| span(Duration::from_secs(seconds));
    assert_eq!(span(Duration::from_millis(2250)), "2.2 s");
    assert_eq!((told(59), told(61)), ("59 s".to_owned(), "1 min 1 s".to_owned()));
    assert_eq!((told(3661), told(90_060)), ("1 h 1 min".to_owned(), "1 d 1 h".to_owned()));
}

#[test]
fn a_node_without_history_takes_two_lines() {
    let expected = "  joseph.lab (nd 3): known, no session; heard 2 min 10 s ago
    reached by       en0 02:00:00:00:00:02\n";
    assert_eq!(said(|_| ()), expected);
}

#[test]
fn a_node_with_a_session_tells_all_of_it() {
    let text = said(|view| {
        view.state = NodeState::Up;
        view.rtt = Some(Duration::from_micros(123));
        view.extended = Some(true);
        view.up_since = Some(Instant::from_nanos(70_000_000_000));
        view.counters = PeerCounters {
            tx_frames: 10,
            tx_bytes: 5120,
            tx_retransmits: 1,
            rx_frames: 20,
            rx_bytes: 20_480,
            rx_duplicate: 2,
            rx_dropped: 3,
            messages_in: 4,
            messages_out: 5,
            sessions: 1,
        };
    });
    let expected = "  joseph.lab (nd 3): up for 1 min 0 s; heard 2 min 10 s ago
    reached by       en0 02:00:00:00:00:02
    round trip       123 us
    window           2 bytes; 1 bytes and 3 messages under way or waiting
    speaks           Qnet with selective acknowledgements
    sent             10 packets, 1 of them again, 5120 bytes
    received         20 packets, 2 a second time, 3 dropped, 20480 bytes
    messages         5 sent, 4 received
    sessions         1\n";
    assert_eq!(text, expected);
}

#[test]
fn each_path_of_a_session_has_a_line() {
    let one = PathView {
        link: LinkId(1),
        addr: MAC,
        state: PathState::Up,
        rtt: Some(Duration::from_micros(90)),
        in_flight: 10,
        window: 20,
        sent: 300,
        lost: 4,
    };
    let text = said(|view| {
        view.counters.sessions = 1;
        view.paths = vec![one, PathView { state: PathState::Down, rtt: None, ..one }];
    });
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("    path ")).collect();
    let works = "    path             en0 02:00:00:00:00:02: works; round trip 90 us; 10 of 20 bytes under way; \
                 300 packets of messages sent, 4 lost";
    assert_eq!(lines[0], works);
    assert!(lines[1].contains(": does not answer; round trip not measured;"), "{text}");
    assert!(!text.contains("reached by"), "the paths say it: {text}");
}

#[test]
fn clashes_are_told_with_their_cure() {
    let text = said(|view| view.clash = Some(Clash::Name));
    assert!(text.contains("another node calls itself the same: give one of them another name\n"), "{text}");
    let text = said(|view| view.clash = Some(Clash::Address));
    assert!(text.contains("another node has its address on a link"), "{text}");
}

#[test]
fn no_line_holds_the_letters_of_the_documented_counters() {
    use DownReason::{Closed, Forgotten, Rebooted, Shutdown, Silent, Unacknowledged};
    let whys = [Closed, Forgotten, Rebooted, Unacknowledged, Silent, Shutdown].map(Some);
    for why in whys.into_iter().chain([None]) {
        for state in [NodeState::Known, NodeState::Connecting, NodeState::Up] {
            for (extended, clash) in
                [(None, None), (Some(true), Some(Clash::Name)), (Some(false), Some(Clash::Address))]
            {
                let text = said_of("joe", |view| {
                    view.state = state;
                    view.paths = [PathState::Unproven, PathState::Up, PathState::Suspect, PathState::Down]
                        .map(|state| PathView {
                            link: LinkId(1),
                            addr: MAC,
                            state,
                            rtt: None,
                            in_flight: 1,
                            window: 2,
                            sent: 3,
                            lost: 1,
                        })
                        .into();
                    view.extended = extended;
                    view.clash = clash;
                    view.last_end = Some(SessionEnd { at: Instant::from_nanos(1), why });
                });
                assert!(text.contains("calls itself     joe:"), "{text}");
                assert!(!super::super::RESERVED.iter().any(|letters| text.contains(letters)), "{text}");
            }
        }
    }
}
