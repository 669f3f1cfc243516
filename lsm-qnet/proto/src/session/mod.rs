//! A session: the connection between this node and one other.
//!
//! It owns small parts, each with its own file and tests: the state machine of its set-up
//! ([`state`]), the sending half ([`outbox`]) and the receiving half ([`inbox`]) of the transport.
//! What it wants to send is fetched by [`Session::poll`], in this order: set-up, refusals,
//! acknowledgements, pings, data.

pub(crate) mod congestion;
pub(crate) mod inbox;
pub(crate) mod message;
pub(crate) mod order;
pub(crate) mod outbox;
pub(crate) mod partial;
pub(crate) mod ranges;
pub(crate) mod rtt;
pub(crate) mod seen;
pub(crate) mod state;
pub(crate) mod stream;

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::Config;
use crate::event::DownReason;
use crate::time::Instant;
use crate::wire::WireError;
use crate::wire::ack::{self, Ack, Nack};
use crate::wire::lwl4::{HEADER, Header, Kind, LAST, Layer};
use crate::wire::tlv::{ABILITY_CRC, ABILITY_SACK, Extensions};

use inbox::{Arrival, Budget, Inbox};
use message::Message;
use outbox::{Outbox, Patience};
use state::{Action, Illegal, Input, Phase, transition};
use stream::Delivery;

/// Refusals and plain acknowledgements waiting to be sent; the oldest give way.
const MAX_ANSWERS: usize = 256;

/// The times a session goes by, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) est_timeout: Duration,
    pub(crate) est_retries: u32,
    pub(crate) idle: Duration,
    pub(crate) poll_spacing: Duration,
    pub(crate) poll_retries: u32,
    pub(crate) patience: Patience,
}

impl Times {
    pub(crate) fn new(config: &Config) -> Times {
        let longest_timeout = config.ticks(config.tx_ticks.max(1));
        Times {
            est_timeout: config.ticks(config.conn_est_timeout.max(1)),
            est_retries: config.conn_est_retries,
            idle: config.ticks(config.conn_up_idle.max(1)),
            poll_spacing: config.ticks(5).min(config.ticks(config.conn_up_idle.max(1))),
            poll_retries: config.conn_up_retries.max(1),
            patience: Patience {
                longest_timeout,
                give_up: longest_timeout.saturating_mul(config.tx_retries.max(1)),
            },
        }
    }
}

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
    pub(crate) extensions: Option<Extensions>,
    /// A packet with a good checksum arrived.
    crc_seen: bool,
    pub(crate) outbox: Outbox,
    inbox: Inbox,
    ack_due: bool,
    plain_acks: VecDeque<u32>,
    nacks: VecDeque<(u8, u32)>,
    heard: Instant,
    polls: u32,
    poll_at: Option<Instant>,
    ping_due: bool,
    answer_due: bool,
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
            extensions: None,
            crc_seen: false,
            outbox: Outbox::new(piece),
            inbox: Inbox::new(),
            ack_due: false,
            plain_acks: VecDeque::new(),
            nacks: VecDeque::new(),
            heard: now,
            polls: 0,
            poll_at: None,
            ping_due: false,
            answer_due: false,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
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
            self.retry_at = now + times.est_timeout;
        }
        if came_up {
            if let Some(called) = self.called.take() {
                self.outbox.on_round_trip(now.since(called));
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

    /// The address became known: what was due in vain goes out at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if self.phase == Phase::InitSent && self.tcs_due.is_none() {
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
        self.ping_due = false;
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
    pub(crate) fn push(&mut self, now: Instant, message: Message) {
        self.outbox.push(now, message);
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
        match &arrival {
            Arrival::Packet | Arrival::Message(_) | Arrival::Transfer(_) | Arrival::Duplicate => {
                if selective {
                    self.ack_due = true;
                } else {
                    self.answer_plain(header.seq);
                }
            }
            Arrival::Part => {
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
        self.ping_due = true;
    }

    /// A ping outside of the sequence: `request` or answer.
    pub(crate) fn on_ping(&mut self, request: bool) {
        self.answer_due |= request;
    }

    /// The next packet, its payload in `frame[HEADER..]`.
    pub(crate) fn poll(&mut self, now: Instant, frame: &mut [u8], budget: &Budget) -> Option<Out> {
        if let Some(kind) = self.tcs_due.take() {
            if kind == Kind::TcsInit && self.tries == 0 {
                self.called = Some(now);
            } else if self.tries > 0 {
                // The answer would not tell which transmission it answers.
                self.called = None;
            }
            return Some(Out::Tcs(kind));
        }
        if self.phase != Phase::Up {
            return None;
        }
        if let Some(out) = self.poll_answers(now, frame, budget) {
            return Some(out);
        }
        if std::mem::take(&mut self.answer_due) {
            return ping(frame, 1);
        }
        if std::mem::take(&mut self.ping_due) {
            return ping(frame, 0);
        }
        let (header, spare) = self.outbox.poll(now, frame)?;
        Some(Out::Packet(header, spare))
    }

    fn poll_answers(&mut self, now: Instant, frame: &mut [u8], budget: &Budget) -> Option<Out> {
        let room = frame.get_mut(HEADER..)?;
        if let Some((reason, seq)) = self.nacks.pop_front() {
            return self.nack(reason, seq, room, budget);
        }
        if let Some(seq) = self.plain_acks.pop_front() {
            let mut header = Header::new(Kind::Ack, Layer::Kif);
            header.seq = seq;
            return Some(Out::Packet(header, 0));
        }
        if !std::mem::take(&mut self.ack_due) {
            return None;
        }
        let head = self.inbox.ack_head(now, budget);
        let body = room.len().min(usize::try_from(self.outbox.piece()).unwrap_or(usize::MAX));
        self.ack_due = self.inbox.compose(body.saturating_sub(ack::ACK_HEAD));
        let mut header = Header::new(Kind::Ack, Layer::Seq);
        let (whole, parts) = (self.inbox.whole(), self.inbox.parts());
        let length = Ack::emit(&head, whole, parts, &mut room[..body], header.order).ok()?;
        self.inbox.echoed();
        header.seq = head.base;
        header.length = length as u32; // bounded by the frame
        Some(Out::Packet(header, 0))
    }

    fn nack(&mut self, reason: u8, seq: u32, room: &mut [u8], budget: &Budget) -> Option<Out> {
        let mut header = Header::new(Kind::Nack, Layer::Seq);
        header.seq = seq;
        if !self.selective() {
            // What a plain peer understands: the first missing byte.
            header.layer = Layer::Kif;
            header.offset = self.inbox.gaps(seq).next().map_or(0, |gap| gap.offset);
            return Some(Out::Packet(header, 0));
        }
        let window = self.inbox.window(budget);
        let body = room.len().min(usize::try_from(self.outbox.piece()).unwrap_or(usize::MAX));
        let room = &mut room[..body];
        let written = match reason {
            ack::MISSING => Nack::emit(reason, window, self.inbox.gaps(seq), room, header.order),
            ack::ROOM => Nack::emit(reason, window, std::iter::empty(), room, header.order),
            _ => {
                let all = ack::Span { seq, offset: 0, length: u32::MAX };
                Nack::emit(reason, window, std::iter::once(all), room, header.order)
            }
        };
        header.length = written.ok()? as u32; // bounded by the frame
        Some(Out::Packet(header, 0))
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
                Some(data.map_or(poll, |data| data.min(poll)))
            }
        }
    }

    /// Time passed. Returns why the session ended, if it did.
    pub(crate) fn on_timeout(&mut self, now: Instant, times: &Times) -> Option<End> {
        match self.phase {
            Phase::Closed => None,
            Phase::InitSent | Phase::RemUpSent => self.retry(now, times),
            Phase::Up => {
                if self.outbox.on_timeout(now, times.patience) {
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
        self.ping_due = true;
        self.poll_at = Some(now + times.poll_spacing);
        None
    }
}

/// An NR ping outside of the sequence.
fn ping(frame: &mut [u8], kind: u8) -> Option<Out> {
    *frame.get_mut(HEADER)? = kind;
    let mut header = Header::new(Kind::User, Layer::Nr);
    header.length = 1;
    Some(Out::Packet(header, 0))
}
