//! The meter: how fast messages go to another node, measured from inside the two daemons.
//!
//! The owner of a node asks its network manager (METER, `qnet_iomsg::meter`). This `lsm-qnet` then connects to the meter
//! of the other node, sends messages of one size for a while, so many at a time, and replies with what it saw. The
//! meter of the other node is a server like any other, without a process behind it: it reads each message whole, looks
//! whether the bytes are the ones that a meter sends, and replies. Whoever may connect to channels here may use it.
//!
//! ```text
//!  program ── METER ──► netmgr ── run ══ messages ══► (1, 2) of the other node
//!          ◄─ outcome ──          ◄═ empty replies ═
//! ```

mod pattern;
mod times;

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use qnet_iomsg::meter::{CHANNEL, Outcome, Plan};
use qnet_proto::{
    Body, ClientId, ClientInfo, Command, Data, Errno, Event, Handle, Instant, MAX_FIRST, NodeId, Outlet, Rcv,
    ServerId, Sink, VtidInfo,
};

use super::{CallId, Caller, Engine, from_wire, to_wire, wire::errno_of};
use pattern::Pattern;
use times::Times;

/// Measurements at a time.
const MAX_RUNS: usize = 4;
/// Most messages under way, longest message and longest time of a measurement.
const MAX_IN_FLIGHT: u32 = 1024;
const MAX_SIZE: u32 = 1 << 30;
const MAX_MILLIS: u32 = 60_000;
/// Connections of other nodes.
const MAX_SERVED: usize = 256;
/// What a message may bring along; the meter reads the rest.
const FIRST: u32 = MAX_FIRST as u32;
/// Distinguishes the meter's connections and calls from those of programs, whose numbers have 32 bits.
const OURS: u64 = 1 << 63;

/// Measurements that run, and those of other nodes that are served.
#[derive(Debug, Default)]
pub(super) struct Meter {
    runs: HashMap<u32, Run>,
    last_run: u32,
    served: HashMap<ServerId, ()>,
    reading: HashMap<Rcv, Reading>,
}

/// A measurement of ours.
#[derive(Debug)]
struct Run {
    /// Who waits for the outcome.
    call: CallId,
    plan: Plan,
    began: Instant,
    last: Instant,
    next: u32,
    /// When the messages under way were sent.
    under_way: HashMap<u32, Instant>,
    times: Times,
    pattern: Pattern,
}

/// A message of another node that is being read.
#[derive(Debug)]
struct Reading {
    server: ServerId,
    good: Rc<Cell<bool>>,
}

/// Looks at the bytes of a message as they arrive, and keeps none.
struct Check(Rc<Cell<bool>>);

impl Sink for Check {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let matches = u32::try_from(offset).is_ok_and(|offset| Pattern::matches(offset, bytes));
        self.0.set(self.0.get() && matches);
    }
}

impl Engine {
    /// Begins a measurement for the caller of `id`.
    pub(super) fn meter(&mut self, id: CallId, plan: Plan) {
        if let Err(errno) = self.begin_run(id, plan) {
            self.reply_error(id, errno);
        }
    }

    fn begin_run(&mut self, id: CallId, plan: Plan) -> Result<(), i32> {
        let caller = self.calls.get(&id).map(|call| call.caller);
        let Some(Caller::Local { client, .. }) = caller else { return Err(libc::EPERM) };
        if !self.is_owners(client) {
            return Err(libc::EPERM);
        }
        let in_bounds = (1..=MAX_IN_FLIGHT).contains(&plan.in_flight)
            && (1..=MAX_SIZE).contains(&plan.size)
            && (1..=MAX_MILLIS).contains(&plan.millis)
            && plan.nd != NodeId::LOCAL.0;
        if !in_bounds {
            return Err(libc::EINVAL);
        }
        if self.meter.runs.len() >= MAX_RUNS {
            return Err(libc::EBUSY);
        }
        let run = self.meter.last_run.wrapping_add(1) & i32::MAX as u32;
        self.meter.last_run = run;
        let (pid, chid) = CHANNEL;
        let client = ClientId(key(run, 0));
        let cred = ClientInfo { pid: std::process::id().cast_signed(), ..ClientInfo::default() };
        let command = Command::Connect { client, nd: NodeId(plan.nd), pid, chid, cred };
        self.node.handle_command(self.now, command).map_err(errno_of)?;
        let run_state = Run {
            call: id,
            plan,
            began: self.now,
            last: self.now,
            next: 0,
            under_way: HashMap::new(),
            times: Times::new(),
            pattern: Pattern::new(),
        };
        self.meter.runs.insert(run, run_state);
        Ok(())
    }

    /// Takes the events of the meter's own connections and calls; gives back all others.
    pub(super) fn meter_event(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Connected { client: ClientId(key), .. } if ours(key) => self.run_connected(run_of(key)),
            Event::ConnectFailed { client: ClientId(key), errno } if ours(key) => {
                self.run_failed(run_of(key), from_wire(errno));
            }
            Event::Death { client: ClientId(key) } if ours(key) => self.run_failed(run_of(key), libc::ESRCH),
            Event::Read { handle, offset, nbytes } if ours(handle.0) => {
                self.run_read(handle, offset, nbytes);
            }
            Event::Reply { handle, .. } if ours(handle.0) => self.run_reply(handle),
            Event::Error { handle, errno, .. } if ours(handle.0) => {
                self.run_failed(run_of(handle.0), from_wire(errno));
            }
            Event::Connect { server, nd, pid, chid, cred, .. } if (pid, chid) == CHANNEL => {
                self.serve(server, nd, cred.as_ref());
            }
            Event::Message { rcv, server, info, data } if self.meter.served.contains_key(&server) => {
                self.served_message(rcv, server, &info, &data);
            }
            Event::ReadDone { rcv, .. } if self.meter.reading.contains_key(&rcv) => {
                let good = self.meter.reading.get(&rcv).is_some_and(|reading| reading.good.get());
                self.served_end(rcv, if good { Ok(()) } else { Err(to_wire(libc::EBADMSG)) });
            }
            Event::ReadError { rcv, errno, .. } if self.meter.reading.contains_key(&rcv) => {
                self.served_end(rcv, Err(errno));
            }
            Event::Unblock { rcv } if self.meter.reading.contains_key(&rcv) => {
                self.served_end(rcv, Err(Errno::EINTR));
            }
            Event::Pulse { server, .. } if self.meter.served.contains_key(&server) => {}
            Event::Disconnect { server } if self.meter.served.remove(&server).is_some() => {
                self.meter.reading.retain(|_, reading| reading.server != server);
            }
            other => return Some(other),
        }
        None
    }

    // ---- the measuring side ----

    fn run_connected(&mut self, number: u32) {
        let Some(run) = self.meter.runs.get_mut(&number) else { return };
        run.began = self.now;
        run.last = self.now;
        for _ in 0..run.plan.in_flight {
            self.run_send(number);
        }
    }

    fn run_send(&mut self, number: u32) {
        let Some(run) = self.meter.runs.get_mut(&number) else { return };
        run.next = run.next.wrapping_add(1);
        run.under_way.insert(run.next, self.now);
        let size = run.plan.size;
        let info = VtidInfo { tid: 1, priority: 10, srcmsglen: size, ..VtidInfo::default() };
        let first = Body::from_source(run.pattern.piece(0, size.min(FIRST)));
        let (client, handle) = (ClientId(key(number, 0)), Handle(key(number, run.next)));
        let command = Command::Send { client, handle, info, first, reply: Outlet::nowhere() };
        if let Err(error) = self.node.handle_command(self.now, command) {
            self.run_failed(number, errno_of(error));
        }
    }

    fn run_read(&mut self, handle: Handle, offset: u32, nbytes: u32) {
        let Some(run) = self.meter.runs.get(&run_of(handle.0)) else { return };
        let data = Body::from_source(run.pattern.piece(offset, nbytes));
        self.command(Command::ReadData { handle, offset, data });
    }

    fn run_reply(&mut self, handle: Handle) {
        let number = run_of(handle.0);
        let now = self.now;
        let Some(run) = self.meter.runs.get_mut(&number) else { return };
        if let Some(sent) = run.under_way.remove(&message_of(handle.0)) {
            run.times.add(now.since(sent).as_nanos() as u64); // a minute fits
        }
        run.last = now;
        // Without the program that asked, there is no more to do than to let the last answers come.
        let wanted = self.calls.contains_key(&run.call);
        let on = wanted && now.since(run.began).as_millis() < u128::from(run.plan.millis);
        if on {
            self.run_send(number);
        } else if run.under_way.is_empty() {
            self.run_ended(number);
        }
    }

    fn run_ended(&mut self, number: u32) {
        let Some(run) = self.meter.runs.remove(&number) else { return };
        self.command(Command::Disconnect { client: ClientId(key(number, 0)) });
        let outcome = Outcome {
            messages: run.times.count(),
            nanos: run.last.since(run.began).as_nanos() as u64, // minutes fit
            shortest: run.times.shortest(),
            median: run.times.quantile(50),
            most: run.times.quantile(99),
            longest: run.times.longest(),
        };
        self.reply(run.call, 0, 0, &outcome.to_bytes());
    }

    fn run_failed(&mut self, number: u32, errno: i32) {
        let Some(run) = self.meter.runs.remove(&number) else { return };
        // Of a connection that failed nothing is left to close.
        let client = ClientId(key(number, 0));
        let _closed = self.node.handle_command(self.now, Command::Disconnect { client });
        self.reply_error(run.call, errno);
    }

    // ---- the measured side ----

    fn serve(&mut self, server: ServerId, nd: NodeId, cred: Option<&ClientInfo>) {
        let (_, rights) = self.access.map(cred);
        let errno = match (rights.connect, self.meter.served.len() < MAX_SERVED) {
            (false, _) => {
                self.say_refusal(nd, CHANNEL.0, CHANNEL.1);
                libc::EPERM
            }
            (true, false) => libc::EAGAIN,
            (true, true) => 0,
        };
        if errno != 0 {
            self.totals.remote_refused += 1;
            return self.command(Command::Reject { server, errno: to_wire(errno) });
        }
        self.totals.remote_connects += 1;
        self.meter.served.insert(server, ());
        self.command(Command::Accept { server, scoid: 1, nbytes: FIRST });
    }

    fn served_message(&mut self, rcv: Rcv, server: ServerId, info: &VtidInfo, data: &Data) {
        self.totals.calls += 1;
        let left = info.srcmsglen.saturating_sub(data.len() as u32);
        if !Pattern::matches(0, data) {
            return self.command(Command::Error { rcv, errno: to_wire(libc::EBADMSG) });
        }
        if left == 0 {
            return self.command(Command::Reply { rcv, status: 0, data: Body::empty() });
        }
        let good = Rc::new(Cell::new(true));
        let into = Outlet::new(Check(Rc::clone(&good)));
        self.meter.reading.insert(rcv, Reading { server, good });
        let command = Command::Read { rcv, offset: data.len() as u32, nbytes: left, into };
        if let Err(error) = self.node.handle_command(self.now, command) {
            self.served_end(rcv, Err(to_wire(errno_of(error))));
        }
    }

    fn served_end(&mut self, rcv: Rcv, outcome: Result<(), Errno>) {
        self.meter.reading.remove(&rcv);
        self.command(match outcome {
            Ok(()) => Command::Reply { rcv, status: 0, data: Body::empty() },
            Err(errno) => Command::Error { rcv, errno },
        });
    }
}

/// The core's key of a run's connection (message 0) or of one of its messages.
fn key(run: u32, message: u32) -> u64 {
    OURS | u64::from(run) << 32 | u64::from(message)
}

fn ours(key: u64) -> bool {
    key & OURS != 0
}

fn run_of(key: u64) -> u32 {
    (key >> 32) as u32 & i32::MAX as u32
}

fn message_of(key: u64) -> u32 {
    key as u32
}

#[cfg(test)]
pub(super) mod tests;
