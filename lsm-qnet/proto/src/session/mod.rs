//! A session: the connection between this node and one other.
//!
//! It owns small parts, each with its own file and tests: the state machine of its set-up
//! ([`state`]), the sending half ([`outbox`]) with its paths ([`lanes`]) and the receiving half ([`inbox`]) of the
//! transport. What it wants to send is fetched by [`Session::poll`], in this order: set-up, refusals,
//! acknowledgements, pings, data; each with the path it takes.

pub(crate) mod answers;
pub(crate) mod congestion;
pub(crate) mod echo;
pub(crate) mod health;
pub(crate) mod inbox;
pub(crate) mod lane;
pub(crate) mod lanes;
pub(crate) mod message;
pub(crate) mod order;
pub(crate) mod outbox;
pub(crate) mod pacer;
pub(crate) mod partial;
mod patience;
pub(crate) mod ranges;
pub(crate) mod rtt;
pub(crate) mod seen;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod times;
mod way_back;

use std::collections::VecDeque;

use crate::event::DownReason;
use crate::link::{LinkAddr, LinkId};
use crate::qos::Route;
use crate::time::Instant;
use crate::wire::WireError;
use crate::wire::ack::{self, Ack, Nack};
use crate::wire::kif::Kif;
use crate::wire::lwl4::{FIRST, Header, Kind, LAST, Layer};
use crate::wire::nr::Nr;
use crate::wire::tlv::{ABILITY_CRC, ABILITY_SACK, Extensions};

use echo::Echoes;
use inbox::{Arrival, Budget, Inbox};
use lane::{Lane, LaneId};
use lanes::MAX_LANES;
use message::Message;
use outbox::Outbox;
use patience::Waiting;
use state::{Action, Illegal, Input, Phase, transition};
use stream::Delivery;
pub(crate) use times::Times;
use way_back::WayBack;

/// Refusals and plain acknowledgements waiting to be sent; the oldest give way.
const MAX_ANSWERS: usize = 256;

/// Pings waiting for their answer; beyond, the asker asks again.
const MAX_PINGED: usize = 8;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It never was established.
    Unreachable,
    /// It was, and then this happened.
    Down(DownReason),
}

/// What a session wants to send; data and acknowledgements stand in the frame already.
#[derive(Debug)]
pub(crate) enum Out {
    /// A set-up message, whose body names the nodes.
    Tcs(Kind),
    /// A packet with its payload in place, and spare zero bytes behind it.
    Packet(Header, usize),
}

/// Where it goes.
pub(crate) type Path = (LinkId, LinkAddr);

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    phase: Phase,
    pub(crate) local_id: u32,
    pub(crate) remote_id: u32,
    /// This node wants it for itself.
    initiator: bool,
    tries: u32,
    /// When to repeat the set-up message.
    retry_at: Instant,
    called: Option<Instant>,
    tcs_due: Option<Kind>,
    /// Where the set-up message goes; `None`: everywhere, from the path at `tcs_place` on.
    tcs_to: Option<LaneId>,
    tcs_place: usize,
    /// The path of the packet at hand, and its lane if it is one of the session's.
    came_by: Option<Path>,
    arrival: Option<LaneId>,
    pub(crate) extensions: Option<Extensions>,
    /// A packet with a good checksum arrived.
    crc_seen: bool,
    pub(crate) outbox: Outbox,
    inbox: Inbox,
    ack_due: bool,
    /// Acknowledgements that may wait.
    waiting: Waiting,
    /// Where acknowledgements go.
    way_back: WayBack,
    plain_acks: VecDeque<u32>,
    nacks: VecDeque<(u8, u32)>,
    heard: Instant,
    polls: u32,
    poll_at: Option<Instant>,
    /// Paths by which a ping came that is not answered.
    pinged: Vec<Path>,
    /// Neither side acknowledges anything.
    no_ack: bool,
    /// Something was lost that nobody sends again.
    broken: bool,
    /// Then: the message that is missing although later ones came, and since when nothing of it did.
    gap: Option<(u64, Instant)>,
    /// A link of ours has no address of the peer: when that one is asked for again.
    search: Option<Instant>,
    search_due: bool,
    /// Pings that somebody asked for.
    pub(crate) echoes: Echoes,
}

impl Session {
    /// A closed session with an id of this node's choice; fragments of `piece` bytes until the peer
    /// tells otherwise.
    pub(crate) fn new(now: Instant, local_id: u32, piece: u32) -> Session {
        Session {
            phase: Phase::Closed,
            local_id,
            remote_id: 0,
            initiator: false,
            tries: 0,
            retry_at: now,
            called: None,
            tcs_due: None,
            tcs_to: None,
            tcs_place: 0,
            came_by: None,
            arrival: None,
            extensions: None,
            crc_seen: false,
            outbox: Outbox::new(piece),
            inbox: Inbox::new(),
            ack_due: false,
            waiting: Waiting::default(),
            way_back: WayBack::default(),
            plain_acks: VecDeque::new(),
            nacks: VecDeque::new(),
            heard: now,
            polls: 0,
            poll_at: None,
            pinged: Vec::new(),
            no_ack: false,
            broken: false,
            gap: None,
            search: None,
            search_due: false,
            echoes: Echoes::default(),
        }
    }

    /// Neither side acknowledges anything (`no_ack=1`); said once, at the beginning.
    pub(crate) fn without_acks(&mut self) {
        self.no_ack = true;
        self.outbox.expect_no_acks();
    }

    /// Both sides number their messages from here; said once, at the beginning.
    pub(crate) fn number_from(&mut self, first: u32) {
        self.outbox.number_from(first);
        self.inbox.number_from(first);
    }

    /// Tells whether some link of ours has no address of the peer.
    pub(crate) fn lacks_paths(&mut self, now: Instant, times: &Times, lacks: bool) {
        self.search = lacks.then(|| self.search.unwrap_or(now + times.search));
    }

    /// Whether the links without an address of the peer are to be asked now.
    pub(crate) fn take_search(&mut self) -> bool {
        std::mem::take(&mut self.search_due)
    }

    /// The session's paths from now on, each with the most payload bytes of a packet there.
    pub(crate) fn set_paths(&mut self, now: Instant, paths: &[(Path, u32)]) {
        self.outbox.set_paths(now, paths);
    }

    /// The packet that is handled next came by this path.
    pub(crate) fn arrived_by(&mut self, now: Instant, link: LinkId, addr: LinkAddr) {
        self.came_by = Some((link, addr));
        self.arrival = self.outbox.lanes.of(link, addr);
        // A plain peer may not know pings: what it sends must do as a proof.
        if self.phase == Phase::Up
            && !self.selective()
            && let Some(lane) = self.arrival.and_then(|id| self.outbox.lanes.get_mut(id))
        {
            lane.health.prove(now);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether this node wants it for itself, not only because the peer called.
    pub(crate) fn is_wanted(&self) -> bool {
        self.initiator || !self.outbox.is_idle()
    }

    /// Makes the move; a phase never changes elsewhere. Returns whether the session came up.
    fn step(&mut self, now: Instant, times: &Times, input: Input) -> Result<bool, Illegal> {
        let (next, action) = transition(self.phase, input, self.initiator)?;
        let came_up = next == Phase::Up && self.phase != Phase::Up;
        if next != self.phase {
            self.tries = 0;
        }
        self.phase = next;
        let due = match action {
            Action::None => None,
            Action::SendInit => Some(Kind::TcsInit),
            Action::SendRemUp => Some(Kind::TcsRemUp),
            Action::SendUp => Some(Kind::TcsUp),
            Action::SendRemDown => Some(Kind::TcsRemDown),
        };
        if due.is_some() {
            self.tcs_due = due;
            let answer = matches!(input, Input::Init | Input::RemUp | Input::Up | Input::Data | Input::Down);
            self.tcs_to = self.arrival.filter(|_| answer);
            self.tcs_place = 0;
            self.retry_at = now + times.est_timeout;
        }
        if came_up {
            let called = self.called.take();
            if let Some(lane) = self.arrival.and_then(|id| self.outbox.lanes.get_mut(id)) {
                lane.health.prove(now);
                if let Some(called) = called {
                    lane.rtt.on_sample(now, now.since(called));
                }
            }
            self.outbox.on_up(now);
            self.heard = now;
        }
        Ok(came_up)
    }

    // ---- set-up and tear-down ----

    /// This node wants to send.
    pub(crate) fn open(&mut self, now: Instant, times: &Times) {
        self.initiator = true;
        // Legal in every phase.
        let _ = self.step(now, times, Input::Open);
    }

    /// An address became known: a call that did not go there yet does at once. One that did is not repeated, because the
    /// answer to a repeated call does not tell the round trip time.
    pub(crate) fn hurry(&mut self, now: Instant) {
        let asked_all = self.tcs_place >= self.outbox.lanes.len().min(MAX_LANES);
        if self.phase == Phase::InitSent && self.tcs_due.is_none() && !asked_all {
            self.retry_at = now;
        }
    }

    /// TCS_INIT from the peer that calls itself `remote_id`.
    pub(crate) fn on_init(&mut self, now: Instant, times: &Times, remote_id: u32, ext: Option<Extensions>) {
        self.remote_id = remote_id;
        self.extensions = ext.or(self.extensions);
        self.called = Some(now);
        self.initiator |= !self.outbox.is_idle();
        // Legal in every phase.
        let _ = self.step(now, times, Input::Init);
    }

    /// TCS_REM_UP. Returns whether the session came up.
    pub(crate) fn on_rem_up(
        &mut self,
        now: Instant,
        times: &Times,
        remote_id: u32,
        ext: Option<Extensions>,
    ) -> Result<bool, Illegal> {
        let came_up = self.step(now, times, Input::RemUp)?;
        self.remote_id = remote_id;
        self.extensions = ext.or(self.extensions);
        self.heard = now;
        Ok(came_up)
    }

    /// TCS_UP, data, an acknowledgement or a ping. Returns whether the session came up.
    pub(crate) fn on_alive(
        &mut self,
        now: Instant,
        times: &Times,
        ext: Option<Extensions>,
    ) -> Result<bool, Illegal> {
        let came_up = self.step(now, times, if ext.is_some() { Input::Up } else { Input::Data })?;
        self.extensions = ext.or(self.extensions);
        self.heard = now;
        self.polls = 0;
        self.poll_at = None;
        Ok(came_up)
    }

    /// TCS_DOWN or TCS_REM_DOWN. Returns why the session ended, if it did.
    pub(crate) fn on_down(&mut self, now: Instant, times: &Times, input: Input) -> Option<End> {
        let was_up = self.phase == Phase::Up;
        self.step(now, times, input).ok()?;
        if self.phase != Phase::Closed {
            return None;
        }
        Some(match (was_up, input) {
            (false, _) => End::Unreachable,
            (true, Input::Down) => End::Down(DownReason::Closed),
            (true, _) => End::Down(DownReason::Forgotten),
        })
    }

    /// Gives back what is shared with other sessions.
    pub(crate) fn release(&mut self, budget: &mut Budget) {
        self.inbox.clear(budget);
    }

    /// A packet with a good checksum arrived.
    pub(crate) fn on_good_crc(&mut self) {
        self.crc_seen = true;
    }

    /// Whether every packet of the peer carries a checksum: it said so, or has sent one (that
    /// setting does not change while a node runs). One without is damaged then.
    pub(crate) fn always_crc(&self) -> bool {
        self.crc_seen || self.extensions.is_some_and(|ext| ext.abilities & ABILITY_CRC != 0)
    }

    // ---- transport ----

    /// Whether the peer speaks our acknowledgements.
    fn selective(&self) -> bool {
        self.extensions.is_some_and(|e| e.abilities & ABILITY_SACK != 0)
    }

    /// Tells the sending half what the peer can take: `piece` is what our side allows.
    pub(crate) fn set_piece(&mut self, piece: u32) {
        let ext = self.extensions.unwrap_or_default();
        let piece = if ext.largest_payload > 0 { piece.min(ext.largest_payload) } else { piece };
        self.outbox.on_peer(piece, ext.window, self.selective());
    }

    /// Takes a message to send.
    pub(crate) fn push(&mut self, now: Instant, message: Message, route: Route) {
        self.outbox.push(now, message, route);
    }

    /// A data packet.
    pub(crate) fn on_data(
        &mut self,
        now: Instant,
        header: &Header,
        payload: &[u8],
        budget: &mut Budget,
        delivery: &mut dyn Delivery,
    ) -> Arrival {
        let arrival = self.inbox.on_data(now, header, payload, budget, delivery);
        let selective = self.selective();
        self.way_back.on_data(now, self.arrival, matches!(arrival, Arrival::Duplicate | Arrival::Again));
        if self.no_ack {
            self.broken |= matches!(arrival, Arrival::Refused);
            self.note_gap(now, header.seq);
            return arrival;
        }
        match &arrival {
            Arrival::Packet | Arrival::Transfer(_) if selective && may_wait(header, payload) => {
                self.ack_due |= self.waiting.one_more(now);
            }
            Arrival::Packet | Arrival::Message(_) | Arrival::Transfer(_) | Arrival::Duplicate => {
                if selective {
                    self.ack_due = true;
                } else {
                    self.answer_plain(header.seq);
                }
            }
            Arrival::Part | Arrival::Again => {
                self.ack_due |= selective;
                if header.flags & LAST != 0 {
                    self.refuse(ack::MISSING, header.seq);
                }
            }
            Arrival::NoRoom if selective => self.refuse(ack::NO_ROOM, header.seq),
            Arrival::NoRoom | Arrival::Dropped | Arrival::Refused => {}
        }
        arrival
    }

    /// Where nobody sends again, notes what is missing: it may still be on its way, but not for long.
    fn note_gap(&mut self, now: Instant, seq: u32) {
        let known = |gap: &u64, (missing, _): &(u64, Instant)| gap == missing && *gap as u32 != seq;
        self.gap = self.inbox.gap().map(|gap| match self.gap {
            Some(before) if known(&gap, &before) => before,
            _ => (gap, now),
        });
    }

    /// A sink has room again: the peer is told, if it was refused anything.
    pub(crate) fn on_room(&mut self) {
        if self.inbox.take_waits() && self.selective() {
            self.refuse(ack::ROOM, 0);
        }
    }

    fn answer_plain(&mut self, seq: u32) {
        if self.plain_acks.len() < MAX_ANSWERS {
            self.plain_acks.push_back(seq);
        }
    }

    fn refuse(&mut self, reason: u8, seq: u32) {
        if self.nacks.len() < MAX_ANSWERS && self.nacks.back() != Some(&(reason, seq)) {
            self.nacks.push_back((reason, seq));
        }
    }

    /// An ACK packet.
    ///
    /// # Errors
    /// [`WireError`] when its body is damaged; `Ok(false)` when it makes no sense.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        header: &Header,
        payload: &[u8],
    ) -> Result<bool, WireError> {
        if header.layer != Layer::Seq {
            self.outbox.on_plain_ack(now, header.seq);
            return Ok(true);
        }
        Ok(self.outbox.on_ack(now, &Ack::parse(payload, header.order)?))
    }

    /// A NACK packet.
    ///
    /// # Errors
    /// [`WireError`] when its body is damaged.
    pub(crate) fn on_nack(&mut self, now: Instant, header: &Header, payload: &[u8]) -> Result<(), WireError> {
        if header.layer == Layer::Seq {
            self.outbox.on_nack(now, &Nack::parse(payload, header.order)?);
        } else {
            self.outbox.on_plain_nack(now, header.seq, header.offset);
        }
        Ok(())
    }

    /// There is reason to doubt that the peer still knows the session: asks it.
    pub(crate) fn doubt(&mut self) {
        self.outbox.lanes.iter_mut().for_each(|lane| lane.health.ask());
    }

    /// The next packet, its payload in `frame[HEADER..]`, and where it goes.
    pub(crate) fn poll(&mut self, now: Instant, frame: &mut [u8], budget: &Budget) -> Option<(Out, Path)> {
        if let Some(found) = self.poll_tcs(now) {
            return Some(found);
        }
        if self.phase != Phase::Up {
            return None;
        }
        let to = self.outbox.lanes.for_control(self.way_back.lane()).map(path)?;
        if let Some(out) = self.poll_answers(now, frame, budget) {
            return Some((out, to));
        }
        if let Some(path) = self.pinged.pop() {
            return Some((echo::packet(Nr::PingAnswer, frame)?, path));
        }
        if let Some(lane) = self.outbox.lanes.iter_mut().find_map(|l| l.health.take_probe(now).then_some(l)) {
            return Some((echo::packet(Nr::PingRequest, frame)?, path(lane)));
        }
        let numbered = self.extensions.is_some();
        if let Some(found) = self.echoes.poll(now, &self.outbox.lanes, numbered, frame) {
            return Some(found);
        }
        let sent = self.outbox.poll(now, frame)?;
        let to = self.outbox.lanes.get(sent.lane).map(path)?;
        Some((Out::Packet(sent.header, sent.spare), to))
    }

    /// A set-up message. An answer goes back where the question came from, everything else by every path.
    fn poll_tcs(&mut self, now: Instant) -> Option<(Out, Path)> {
        let kind = self.tcs_due?;
        let answer = self.tcs_to.and_then(|id| self.outbox.lanes.get(id)).map(path);
        let to = answer.or_else(|| self.outbox.lanes.at(self.tcs_place).map(path))?;
        self.tcs_place += 1;
        if answer.is_some() || self.tcs_place >= self.outbox.lanes.len().min(MAX_LANES) {
            self.tcs_due = None;
        }
        if kind == Kind::TcsInit && self.tries == 0 {
            self.called.get_or_insert(now);
        } else if self.tries > 0 {
            // The answer would not tell which transmission it answers.
            self.called = None;
        }
        Some((Out::Tcs(kind), to))
    }

    // ---- time ----

    /// When [`Session::on_timeout`] is wanted.
    pub(crate) fn deadline(&mut self, times: &Times) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::InitSent | Phase::RemUpSent => Some(self.retry_at),
            Phase::Up => {
                let poll = self.poll_at.unwrap_or(self.heard + times.idle);
                let data = self.outbox.deadline(times.patience);
                let broken = self.broken.then_some(self.heard);
                let gap = self.gap.map(|(_, since)| since + times.gap);
                let waiting = self.waiting.until();
                [Some(poll), data, self.search, broken, gap, waiting].into_iter().flatten().min()
            }
        }
    }

    /// Time passed. Returns why the session ended, if it did.
    pub(crate) fn on_timeout(&mut self, now: Instant, times: &Times) -> Option<End> {
        match self.phase {
            Phase::Closed => None,
            Phase::InitSent | Phase::RemUpSent => self.retry(now, times),
            Phase::Up => {
                if self.search.is_some_and(|at| now >= at) {
                    self.search = Some(now + times.search);
                    self.search_due = true;
                }
                self.broken |= self.gap.is_some_and(|(_, since)| now >= since + times.gap);
                if self.outbox.on_timeout(now, times.patience) || self.broken {
                    let _ = self.step(now, times, Input::Exhausted);
                    return Some(End::Down(DownReason::Unacknowledged));
                }
                self.poll_peer(now, times)
            }
        }
    }

    fn retry(&mut self, now: Instant, times: &Times) -> Option<End> {
        if now < self.retry_at {
            return None;
        }
        self.tries += 1;
        let input = if self.tries > times.est_retries { Input::Exhausted } else { Input::Retry };
        let _ = self.step(now, times, input);
        (self.phase == Phase::Closed).then_some(End::Unreachable)
    }

    fn poll_peer(&mut self, now: Instant, times: &Times) -> Option<End> {
        if now < self.poll_at.unwrap_or(self.heard + times.idle) {
            return None;
        }
        if self.polls >= times.poll_retries {
            let _ = self.step(now, times, Input::Exhausted);
            return Some(End::Down(DownReason::Silent));
        }
        self.polls += 1;
        self.doubt();
        self.poll_at = Some(now + times.poll_spacing);
        None
    }
}

fn path(lane: &Lane) -> Path {
    (lane.link, lane.addr)
}

/// Whether nobody waits for the acknowledgement of this packet: see [`patience`].
fn may_wait(header: &Header, payload: &[u8]) -> bool {
    let alone = header.flags & (FIRST | LAST) == FIRST | LAST;
    alone && header.layer == Layer::Kif && Kif::is_call_or_reply(payload, header.order)
}
