//! Two nodes with two links between them, whose frames the test carries.

use crate::link::{Destination, LinkAddr, LinkInfo};
use crate::{Command, CommandError, Config, Domain, Errno, Event, LinkId, NodeId, NodeName};

use super::*;

const PATIENCE: Duration = Duration::from_millis(900);

/// What became of a ping: its token, and the link, or an errno and the links that were tried.
type Outcome = (u64, Result<LinkId, (Errno, Vec<LinkId>)>);

struct Two {
    nodes: [Node; 2],
    now: Instant,
    /// Links whose frames are lost.
    cut: Vec<LinkId>,
    events: Vec<Event>,
}

fn addr(node: usize, link: LinkId) -> LinkAddr {
    LinkAddr::mac([2, 0, 0, 0, node as u8, link.0 as u8])
}

impl Two {
    /// Alonzo and joseph; the second one with or without our extensions.
    fn new(extensions: bool) -> Two {
        let now = Instant::from_millis(1);
        let make = |index: usize, name: &str, extensions: bool| {
            let name = NodeName::new(name).unwrap();
            let config = Config::new(name, Domain::default(), 7 + index as u64, index as u64);
            let mut node = Node::new(Config { extensions, ..config }, now);
            for link in [LinkId(0), LinkId(1)] {
                let info = LinkInfo { addr: addr(index, link), mtu: 1500, name: format!("en{}", link.0) };
                node.link_up(now, link, info);
            }
            node
        };
        let nodes = [make(0, "alonzo", true), make(1, "joseph", extensions)];
        let mut two = Two { nodes, now, cut: Vec::new(), events: Vec::new() };
        two.pass(1000);
        two
    }

    /// Lets time pass in steps of a millisecond, which is also what a frame takes.
    fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now = self.now + Duration::from_millis(1);
            let mut frames = Vec::new();
            for (from, node) in self.nodes.iter_mut().enumerate() {
                node.handle_timeout(self.now);
                let mut buffer = [0; 2000];
                while let Some(sent) = node.poll_transmit(self.now, &mut buffer) {
                    frames.push((1 - from, sent, buffer[..sent.len].to_vec()));
                }
            }
            for (to, sent, bytes) in frames.into_iter().filter(|(_, sent, _)| !self.cut.contains(&sent.link))
            {
                let reaches = match sent.dst {
                    Destination::Broadcast => true,
                    Destination::Unicast(dst) => dst == addr(to, sent.link),
                };
                if reaches {
                    self.nodes[to].handle_frame(self.now, sent.link, addr(1 - to, sent.link), &bytes);
                }
            }
            self.events.extend(std::iter::from_fn(|| self.nodes[0].poll_event()));
            while self.nodes[1].poll_event().is_some() {}
        }
    }

    fn joseph(&self) -> NodeId {
        self.nodes[0].nodes().nth(1).expect("joseph is known").nd
    }

    fn ping(&mut self, token: u64, link: Option<LinkId>) -> Result<(), CommandError> {
        let command = Command::Ping { token, nd: self.joseph(), link, patience: PATIENCE };
        self.nodes[0].handle_command(self.now, command)
    }

    /// What became of the pings since the last call.
    fn outcomes(&mut self) -> Vec<Outcome> {
        let outcome = |event| match event {
            Event::Pong { token, rtt, link, addr: at } => {
                assert_eq!(at, addr(1, link));
                assert!(rtt >= Duration::from_millis(1) && rtt < Duration::from_millis(20), "{rtt:?}");
                Some((token, Ok(link)))
            }
            Event::PingFailed { token, errno, ways } => {
                assert!(ways.iter().all(|&(link, at)| at == addr(1, link)), "{ways:?}");
                Some((token, Err((errno, ways.into_iter().map(|(link, _)| link).collect()))))
            }
            _ => None,
        };
        std::mem::take(&mut self.events).into_iter().filter_map(outcome).collect()
    }
}

#[test]
fn a_ping_opens_a_session_and_is_answered_by_the_link_that_was_wanted() {
    for extensions in [true, false] {
        let mut two = Two::new(extensions);
        two.ping(1, None).unwrap();
        two.pass(100);
        assert!(matches!(two.outcomes()[..], [(1, Ok(_))]), "extensions {extensions}");
        for link in [LinkId(0), LinkId(1)] {
            two.ping(2, Some(link)).unwrap();
            two.pass(20);
            assert_eq!(two.outcomes(), [(2, Ok(link))], "extensions {extensions}");
        }
        assert!(two.nodes[0].pings.is_empty());
    }
}

#[test]
fn a_ping_over_a_link_that_is_cut_ends_with_its_patience_while_the_other_answers() {
    let mut two = Two::new(true);
    two.ping(1, None).unwrap();
    two.pass(100);
    two.outcomes();
    two.cut.push(LinkId(1));
    two.ping(2, Some(LinkId(1))).unwrap();
    two.ping(3, Some(LinkId(0))).unwrap();
    two.pass(20);
    assert_eq!(two.outcomes(), [(3, Ok(LinkId(0)))]);
    two.pass(1000);
    assert_eq!(two.outcomes(), [(2, Err((Errno::ETIMEDOUT, vec![LinkId(1)])))]);
}

#[test]
fn a_ping_in_vain_names_the_way_that_was_chosen_for_it() {
    let mut two = Two::new(true);
    two.ping(1, None).unwrap();
    two.pass(100);
    two.outcomes();
    two.cut = vec![LinkId(0), LinkId(1)];
    two.ping(2, None).unwrap();
    two.pass(1000);
    let [(2, Err((Errno::ETIMEDOUT, ways)))] = &two.outcomes()[..] else { panic!("it must end") };
    assert_eq!(ways.len(), 1, "one question takes one way");
}

#[test]
fn a_node_that_does_not_answer_the_set_up_is_unreachable() {
    let mut two = Two::new(true);
    two.cut = vec![LinkId(0), LinkId(1)];
    two.ping(1, None).unwrap();
    two.pass(800);
    assert_eq!(two.outcomes(), [(1, Err((Errno::EHOSTUNREACH, vec![LinkId(0), LinkId(1)])))]);
}

#[test]
fn a_session_that_ends_takes_its_pings_along() {
    let mut two = Two::new(true);
    two.ping(1, None).unwrap();
    two.pass(100);
    two.outcomes();
    two.ping(2, None).unwrap();
    let now = two.now;
    two.nodes[0].shutdown(now);
    two.events.extend(std::iter::from_fn(|| two.nodes[0].poll_event()));
    assert!(matches!(two.outcomes()[..], [(2, Err((Errno::EHOSTDOWN, _)))]));
    assert!(two.nodes[0].pings.is_empty());
    two.pass(2000);
    assert_eq!(two.outcomes(), [], "once");
}

#[test]
fn unknown_nodes_and_links_are_refused_at_once() {
    let mut two = Two::new(true);
    assert_eq!(two.ping(1, Some(LinkId(7))), Err(CommandError::NoSuchPath));
    let command = Command::Ping { token: 1, nd: NodeId(99), link: None, patience: PATIENCE };
    assert_eq!(two.nodes[0].handle_command(two.now, command), Err(CommandError::NoSuchNode));
    two.pass(2000);
    assert_eq!(two.outcomes(), []);
}

#[test]
fn pings_are_bounded_and_leave_nothing_behind() {
    let mut two = Two::new(true);
    two.ping(0, None).unwrap();
    two.pass(100);
    two.cut = vec![LinkId(0), LinkId(1)];
    let taken = (1..10_000).take_while(|token| two.ping(*token, None).is_ok()).count();
    assert!(taken < 1000, "{taken}");
    two.pass(3000);
    two.outcomes();
    assert!(two.nodes[0].pings.is_empty());
    assert_eq!(two.nodes[0].timers.iter().filter(|(_, timer)| matches!(timer, Timer::Ping(_))).count(), 0);
}
