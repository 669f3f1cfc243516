//! Two engines with a wire of frames between them; a program at the first asks it to measure.

use std::time::Duration;

use qnet_iomsg::netmgr::Request;
use qnet_ipc::{ClientPeer, ToClient, ToServer, packet::Connect};
use qnet_proto::{Destination, LinkAddr, LinkId, LinkInfo};

use super::{
    super::tests::{Desk, End, send},
    *,
};

const LINK: LinkId = LinkId(1);
/// Steps after which a test gives up: far more than any of them needs.
const MANY: usize = 2_000_000;
/// Steps in which a message of some kilobytes and its answer have long arrived.
const ENOUGH: usize = 500;

/// Two nodes; a step and a frame take a microsecond each.
pub(in crate::engine) struct Lab {
    pub(in crate::engine) desks: [Desk; 2],
    now: u64,
    /// Frames so far.
    frames: u64,
    /// Another machine on the wire, and what the second node sent to it.
    pub(in crate::engine) third: Option<(LinkAddr, Vec<Vec<u8>>)>,
    buffer: Vec<u8>,
}

impl Lab {
    /// The second node allows so much to callers of the first.
    pub(in crate::engine) fn new(allow: Option<&str>) -> Self {
        let mut desks = [Desk::of("alonzo", None), Desk::of("barbara", allow)];
        for (index, desk) in desks.iter_mut().enumerate() {
            let info = LinkInfo { addr: mac(index), mtu: 1500, name: "en0".to_owned() };
            desk.engine.node().link_up(Instant::ZERO, LINK, info);
        }
        let mut lab = Self { desks, now: 0, frames: 0, third: None, buffer: vec![0; 1500] };
        let known = |lab: &Self| lab.desks[0].engine.core().nodes().count() == 2;
        (0..MANY).find(|_| {
            lab.step();
            known(&lab)
        });
        assert!(known(&lab), "the nodes do not find each other");
        lab
    }

    /// Both engines act once; frames arrive at once.
    pub(in crate::engine) fn step(&mut self) {
        self.now += 1000;
        for from in 0..2 {
            let mut now = Instant::from_nanos(self.now);
            let engine = &mut self.desks[from].engine;
            engine.set_now(self.now);
            if engine.node().poll_timeout().is_some_and(|at| at <= now) {
                engine.node().handle_timeout(now);
            }
            self.desks[from].step();
            while let Some(transmit) = self.desks[from].engine.node().poll_transmit(now, &mut self.buffer) {
                self.now += 1000;
                now = Instant::from_nanos(self.now);
                self.frames += 1;
                let frame = &self.buffer[..transmit.len];
                if let Some((addr, frames)) = &mut self.third
                    && transmit.dst == Destination::Unicast(*addr)
                {
                    frames.push(frame.to_vec());
                    continue;
                }
                assert!(
                    transmit.dst == Destination::Broadcast
                        || transmit.dst == Destination::Unicast(mac(1 - from))
                );
                self.desks[1 - from].engine.node().handle_frame(now, LINK, mac(from), frame);
            }
        }
    }

    /// The second node hears a frame of another machine.
    pub(in crate::engine) fn hear(&mut self, from: LinkAddr, frame: &[u8]) {
        self.now += 1000;
        let now = Instant::from_nanos(self.now);
        self.desks[1].engine.set_now(self.now);
        self.desks[1].engine.node().handle_frame(now, LINK, from, frame);
    }

    /// Steps until nothing is on its way between programs of the two nodes, or what is waits for one of them to read.
    /// What waits for a deadline gets it at once.
    pub(in crate::engine) fn rest(&mut self) {
        let mut quiet = 0;
        for _ in 0..ENOUGH {
            let frames = self.frames;
            self.step();
            let held = |desk: &Desk| desk.engine.core().holdings();
            let waits = |desk: &Desk| held(desk).queued + held(desk).control > 0;
            let moves = |desk: &Desk| waits(desk) || desk.engine.has_more();
            quiet = if self.desks.iter().any(moves) || self.frames > frames { 0 } else { quiet + 1 };
            if quiet == 4 {
                return;
            }
            if self.frames == frames && self.desks.iter().any(waits) {
                let deadlines = self.desks.iter_mut().filter_map(|desk| desk.engine.node().poll_timeout());
                self.now = self.now.max(deadlines.min().map_or(0, Instant::as_nanos));
            }
        }
    }

    /// A program at the first node, connected to its network manager.
    fn program(&mut self) -> End<ClientPeer> {
        let mut program = self.desks[0].client();
        program.say(ToServer::Connect(Connect { conn: 1, nd: 0, pid: 0, chid: 0, flags: 0, claim: None }));
        self.step();
        assert!(matches!(program.hear(), ToClient::ConnectOk { conn: 1, .. }));
        program
    }

    fn plan(&self) -> Plan {
        let mut nodes = self.desks[0].engine.core().nodes();
        let nd = nodes.find(|view| view.nd != NodeId::LOCAL).unwrap().nd.0;
        Plan { nd, size: 64, in_flight: 1, millis: 10 }
    }

    /// Asks for a measurement: the outcome or the errno.
    fn measure(&mut self, plan: Plan) -> Result<Outcome, i32> {
        let mut program = self.program();
        ask(&mut program, plan);
        for _ in 0..MANY {
            self.step();
            match program.try_hear() {
                Some(ToClient::Reply { data, .. }) => return Ok(Outcome::parse(data).unwrap()),
                Some(ToClient::Error { errno, .. }) => return Err(errno),
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
        panic!("no outcome");
    }
}

fn mac(index: usize) -> LinkAddr {
    LinkAddr::mac([2, 0, 0, 0, 0, index as u8])
}

fn ask(program: &mut End<ClientPeer>, plan: Plan) {
    let message = Request::Meter(plan).emit().unwrap();
    program.say(ToServer::Send(send(7, 1, message.len() as u32), &message));
}

#[test]
fn a_measurement_lasts_as_long_as_it_was_asked_to_and_tells_what_it_saw() {
    let mut lab = Lab::new(Some("connect"));
    let outcome = lab.measure(lab.plan()).unwrap();
    let asked = Duration::from_millis(10).as_nanos() as u64;
    assert!(outcome.nanos >= asked && outcome.nanos < 2 * asked, "{outcome:?}");
    assert!(outcome.messages > 1000, "{outcome:?}");
    assert!(outcome.shortest > 0 && outcome.shortest <= outcome.median, "{outcome:?}");
    assert!(outcome.median <= outcome.most && outcome.most <= outcome.longest, "{outcome:?}");
}

#[test]
fn messages_longer_than_what_goes_along_at_first_are_read_whole() {
    let mut lab = Lab::new(Some("connect"));
    let plan = Plan { size: (2 << 20) + 12_345, in_flight: 3, millis: 5, ..lab.plan() };
    let outcome = lab.measure(plan).unwrap();
    assert!(outcome.messages >= 3, "{outcome:?}");
    let bytes = lab.desks[1].engine.core().counters().rx_bytes;
    assert!(bytes >= outcome.messages * u64::from(plan.size), "{bytes} bytes arrived");
    assert!(lab.desks[1].engine.meter.reading.is_empty());
}

#[test]
fn who_may_not_connect_there_may_not_measure() {
    let mut lab = Lab::new(None);
    assert_eq!(lab.measure(lab.plan()), Err(libc::EPERM));
    assert!(lab.desks[0].engine.meter.runs.is_empty());
}

#[test]
fn plans_beyond_the_bounds_are_refused() {
    let mut lab = Lab::new(Some("connect"));
    let good = lab.plan();
    for plan in [
        Plan { size: 0, ..good },
        Plan { size: MAX_SIZE + 1, ..good },
        Plan { in_flight: 0, ..good },
        Plan { in_flight: MAX_IN_FLIGHT + 1, ..good },
        Plan { millis: 0, ..good },
        Plan { millis: MAX_MILLIS + 1, ..good },
        Plan { nd: 0, ..good },
    ] {
        assert_eq!(lab.measure(plan), Err(libc::EINVAL), "{plan:?}");
    }
    assert_eq!(lab.measure(Plan { nd: 77, ..good }), Err(libc::EHOSTUNREACH));
}

#[test]
fn so_many_measurements_run_at_a_time_and_no_more() {
    let mut lab = Lab::new(Some("connect"));
    let long = Plan { millis: MAX_MILLIS, ..lab.plan() };
    let mut programs: Vec<_> = (0..MAX_RUNS).map(|_| lab.program()).collect();
    programs.iter_mut().for_each(|program| ask(program, long));
    lab.step();
    assert_eq!(lab.measure(lab.plan()), Err(libc::EBUSY));
}

#[test]
fn a_measurement_ends_with_the_program_that_asked() {
    let mut lab = Lab::new(Some("connect"));
    let mut program = lab.program();
    ask(&mut program, Plan { millis: MAX_MILLIS, ..lab.plan() });
    (0..50).for_each(|_| lab.step());
    assert_eq!((lab.desks[0].engine.meter.runs.len(), lab.desks[1].engine.meter.served.len()), (1, 1));
    drop(program);
    (0..50).for_each(|_| lab.step());
    assert_eq!((lab.desks[0].engine.meter.runs.len(), lab.desks[1].engine.meter.served.len()), (0, 0));
}

#[test]
fn only_what_a_meter_sends_is_taken() {
    let mut lab = Lab::new(Some("connect"));
    let nd = lab.plan().nd;
    let mut program = lab.desks[0].client();
    let (pid, chid) = CHANNEL;
    program.say(ToServer::Connect(Connect { conn: 1, nd, pid, chid, flags: 0, claim: None }));
    (0..50).for_each(|_| lab.step());
    assert!(matches!(program.hear(), ToClient::ConnectOk { .. }));
    program.say(ToServer::Send(send(7, 1, 5), b"other"));
    (0..50).for_each(|_| lab.step());
    assert_eq!(program.hear(), ToClient::Error { txn: 7, errno: libc::EBADMSG });
}
