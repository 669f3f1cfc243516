//! The names of one directory as they were listed, and who looks them up in a row.
//!
//! ```text
//!  listed   a b c d e f g h i j …          names, and their places in the orders that programs take them in
//!  a run        ▲ ▲ ▲ └──window──┘         looked up three in a row: those that come next may be asked for ahead
//! ```
//!
//! Programs that list first and look afterwards do so in one of three orders: as listed; by inode number, as `find`, `du` and
//! `rm` do from 10,000 entries on, because a disk likes it; by name, as a shell expands `*`. Which one it is the second look-up
//! tells. A run may leave names out: the kernel knows some of them by itself.
//!
//! What is asked for ahead grows with what was of use, from [`FIRST`] names to [`ENTRIES_MAX`], and after a batch that was mostly
//! in vain a longer run is wanted before the next try. Nothing here knows messages or the kernel.

use std::{
    cmp::Ordering,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use qnet_iomsg::{Stat, filesys::ENTRIES_MAX};

use super::{entries::Origin, names::LIFETIME};
use crate::link::TxnId;

/// Names asked for ahead the first time.
const FIRST: u32 = 16;
/// Look-ups in a row before anything is asked for ahead.
const STREAK: u32 = 2;
/// The longest row that is ever wanted.
const LONGEST_STREAK: u32 = 4096;
/// Names that a run may leave out at once.
const GAP: u32 = 16;
/// Threads whose runs are known at a time.
const RUNS: usize = 8;
/// Directories with more names are not put in the order of names: it would take too long.
const SORTED_BY_NAME: usize = 16_384;
/// An answer that takes so long comes from a slow disk or over a slow wire.
const SLOW: Duration = Duration::from_millis(100);
/// Bytes of names in one message: more of them would not come along with its first frames.
const NAMES_ROOM: usize = 8_000;

/// What a listing takes of the memory of all of them, beside its names: itself, and the runs.
const LISTING_COST: usize = 1536;
const _: () = assert!(hashed::<(u64, Listing)>() + RUNS * size_of::<Run>() <= LISTING_COST);
/// What a name takes, beside its own bytes: its places in the list and in the orders, with room to grow, and what the allocator and
/// its counts need.
const NAME_COST: usize = 160;
const _: () =
    assert!(2 * size_of::<Listed>() + hashed::<(Rc<[u8]>, u32)>() + 4 * size_of::<u32>() + 32 <= NAME_COST);
/// What a name takes more while its attributes are asked for, or are here.
const ASKED_COST: usize = 400;
const _: () = assert!(size_of::<Stat>() + 16 + hashed::<(u32, Ready)>() <= ASKED_COST);

/// What something takes in a table that is as empty as one that has just grown.
const fn hashed<T>() -> usize {
    (size_of::<T>() + 1) * 16 / 7
}

/// The names of a directory.
#[derive(Debug)]
pub(super) struct Listing {
    /// Tells it from earlier ones of the same directory.
    pub(super) id: u64,
    /// The handle that reads it.
    pub(super) reader: u64,
    /// When it was of use last.
    pub(super) used: Instant,
    /// Those used later have a higher one.
    pub(super) turn: u64,
    /// The node cannot be asked for several names at once, or not for these.
    pub(super) barren: bool,
    names: Vec<Listed>,
    /// What the names take.
    cost: usize,
    /// Where each name is; made when names are looked up.
    places: HashMap<Rc<[u8]>, u32>,
    /// Names that have their place there.
    placed: usize,
    by_number: Option<Ranks>,
    by_name: Option<Ranks>,
    runs: Vec<Run>,
    /// Names that were asked for, with the transaction that will tell.
    under_way: HashMap<u32, TxnId>,
    ready: HashMap<u32, Ready>,
}

#[derive(Debug)]
struct Listed {
    name: Rc<[u8]>,
    ino: u64,
}

/// Attributes that nobody has asked for yet.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) stat: Box<Stat>,
    /// When they came.
    pub(super) fetched: Instant,
    /// How often anything had been changed from here when they were asked for.
    pub(super) changes: u64,
    pub(super) origin: Origin,
    /// The user that they were told to.
    pub(super) uid: u32,
    /// Whose run they are for.
    pub(super) thread: u32,
}

/// Places in an order that is not that of the listing.
#[derive(Debug)]
struct Ranks {
    /// The n-th name.
    at: Vec<u32>,
    /// Which one a name is.
    rank: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Listed,
    ByNumber,
    ByName,
}

/// One thread's look-ups.
#[derive(Debug)]
struct Run {
    thread: u32,
    order: Order,
    /// The name looked up last.
    last: u32,
    /// Look-ups in a row.
    streak: u32,
    /// How many it takes.
    needed: u32,
    /// Names to ask for next time.
    window: u32,
    /// Names before this place in the order were asked for.
    asked: u32,
    /// When the message that is under way was sent.
    asking: Option<Instant>,
    /// The last answer took long: on a slow disk who waits for a few names must not wait for many.
    slow: bool,
    /// Names that were asked for with the last message, and those of them that were looked up.
    batch: (u32, u32),
}

impl Run {
    fn new(thread: u32, at: u32) -> Self {
        Self {
            thread,
            order: Order::Listed,
            last: at,
            streak: 1,
            needed: STREAK,
            window: FIRST,
            asked: 0,
            asking: None,
            slow: false,
            batch: (0, 0),
        }
    }

    /// Looks back at the last batch before the next one.
    fn judge(&mut self) {
        let (asked, used) = std::mem::take(&mut self.batch);
        if asked == 0 {
            return;
        }
        // It is looked at when half of them have been passed, and the kernel may know some by itself.
        if used * 4 < asked {
            (self.window, self.streak) = (FIRST, 0);
            self.needed = (self.needed * 4).min(LONGEST_STREAK);
            return;
        }
        self.needed = STREAK;
        self.window = match self.slow {
            true => (self.window / 2).max(FIRST),
            false => (self.window * 2).min(ENTRIES_MAX as u32),
        };
    }
}

impl Listing {
    pub(super) fn new(id: u64, reader: u64, now: Instant) -> Self {
        Self {
            id,
            reader,
            used: now,
            turn: id,
            barren: false,
            names: Vec::new(),
            cost: 0,
            places: HashMap::new(),
            placed: 0,
            by_number: None,
            by_name: None,
            runs: Vec::new(),
            under_way: HashMap::new(),
            ready: HashMap::new(),
        }
    }

    /// Adds the next name.
    pub(super) fn push(&mut self, name: Box<[u8]>, ino: u64) {
        self.cost += cost_of(&name);
        self.names.push(Listed { name: name.into(), ino });
    }

    /// Whether names were asked for ahead. What is read then is a listing of its own: `find` takes a large directory in portions,
    /// and has done with the names before.
    pub(super) fn has_runs(&self) -> bool {
        self.runs.iter().any(|run| run.asked > 0)
    }

    /// The memory that it takes.
    pub(super) fn cost(&self) -> usize {
        LISTING_COST + self.cost + (self.under_way.len() + self.ready.len()) * ASKED_COST
    }

    /// The place of a name.
    pub(super) fn find(&mut self, name: &[u8]) -> Option<u32> {
        for at in self.placed..self.names.len() {
            self.places.insert(Rc::clone(&self.names[at].name), at as u32);
        }
        self.placed = self.names.len();
        self.places.get(name).copied()
    }

    /// The name at a place.
    pub(super) fn name(&self, at: u32) -> Option<&[u8]> {
        self.names.get(at as usize).map(|listed| &*listed.name)
    }

    /// A thread looks a name up. The places of the names that are to be asked for ahead now.
    pub(super) fn look_up(&mut self, now: Instant, thread: u32, at: u32) -> Vec<u32> {
        let Some(which) = self.runs.iter().position(|run| run.thread == thread) else {
            if self.runs.len() == RUNS {
                self.runs.remove(0);
            }
            self.runs.push(Run::new(thread, at));
            return Vec::new();
        };
        let (last, order) = (self.runs[which].last, self.runs[which].order);
        let goes_on = self.follows(order, last, at).then_some(order).or_else(|| {
            let orders = [Order::Listed, Order::ByNumber, Order::ByName];
            orders.into_iter().filter(|other| *other != order).find(|other| self.follows(*other, last, at))
        });
        let run = &mut self.runs[which];
        run.last = at;
        match goes_on {
            Some(found) if found == order => run.streak += 1,
            // The first name tells nothing: the row of another order begins with it.
            Some(found) => (run.order, run.streak, run.asked) = (found, 2, 0),
            None => (run.streak, run.asked) = (1, 0),
        }
        let place = self.place(self.runs[which].order, at).unwrap_or(at);
        self.ahead(now, which, place)
    }

    /// What a run that has come to `place` of its order is to ask for.
    fn ahead(&mut self, now: Instant, which: usize, place: u32) -> Vec<u32> {
        let run = &mut self.runs[which];
        let is_due = run.asked <= place || run.asked - place <= run.window / 2;
        if run.streak < run.needed || run.asking.is_some() || self.barren || !is_due {
            return Vec::new();
        }
        run.judge();
        if run.streak < run.needed {
            return Vec::new();
        }
        let (order, from, window) = (run.order, run.asked.max(place + 1), run.window);
        let mut room = NAMES_ROOM;
        let names = (from..).take(window as usize).map_while(|place| self.at(order, place));
        let names = names.take_while(|at| {
            let len = self.name(*at).map_or(0, <[u8]>::len) + 1;
            let fits = len <= room;
            room = room.saturating_sub(len);
            fits
        });
        let names: Vec<_> = names.collect();
        let run = &mut self.runs[which];
        run.asked = from + names.len() as u32;
        run.asking = (!names.is_empty()).then_some(now);
        run.batch = (names.len() as u32, 0);
        names
    }

    /// What a thread was to ask for has been asked with this transaction.
    pub(super) fn on_asked(&mut self, names: &[u32], txn: TxnId) {
        self.under_way.extend(names.iter().map(|at| (*at, txn)));
    }

    /// The transaction that will tell of a name.
    pub(super) fn under_way(&self, at: u32) -> Option<TxnId> {
        self.under_way.get(&at).copied()
    }

    /// A thread's question for these names has been answered, or will not be.
    pub(super) fn on_answered(&mut self, now: Instant, thread: u32, names: &[u32]) {
        if let Some(run) = self.run(thread)
            && let Some(since) = run.asking.take()
        {
            run.slow = now.saturating_duration_since(since) >= SLOW;
        }
        for at in names {
            self.under_way.remove(at);
        }
        self.ready.retain(|_, ready| now < ready.fetched + LIFETIME);
    }

    /// Attributes have come for a name.
    pub(super) fn put(&mut self, at: u32, ready: Ready) {
        self.ready.insert(at, ready);
    }

    /// The attributes of a name, once, if they are fresh.
    pub(super) fn take(&mut self, now: Instant, at: u32, changes: u64) -> Option<Ready> {
        let ready = self.ready.remove(&at)?;
        if self.ready.is_empty() {
            // the table is not kept at its size
            self.ready = HashMap::new();
        }
        if now >= ready.fetched + LIFETIME || ready.changes != changes {
            return None;
        }
        if let Some(run) = self.run(ready.thread) {
            run.batch.1 += 1;
        }
        Some(ready)
    }

    fn run(&mut self, thread: u32) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.thread == thread)
    }

    /// Whether who has looked `last` up and then looks `at` up may be going through an order.
    fn follows(&mut self, order: Order, last: u32, at: u32) -> bool {
        let names = &self.names;
        let listed = |at: u32| &names[at as usize];
        match order {
            Order::Listed => {}
            Order::ByNumber => {
                let by_number = |one, other| listed(one).ino.cmp(&listed(other).ino);
                sort(&mut self.by_number, names.len(), by_number);
            }
            Order::ByName if names.len() > SORTED_BY_NAME => return false,
            Order::ByName => {
                let by_name = |one, other| listed(one).name.cmp(&listed(other).name);
                sort(&mut self.by_name, names.len(), by_name);
            }
        }
        let (Some(from), Some(to)) = (self.place(order, last), self.place(order, at)) else { return false };
        (1..=GAP).contains(&to.wrapping_sub(from))
    }

    fn ranks(&self, order: Order) -> Option<&Ranks> {
        match order {
            Order::Listed => None,
            Order::ByNumber => self.by_number.as_ref(),
            Order::ByName => self.by_name.as_ref(),
        }
    }

    /// Which name of the order the one at `at` is.
    fn place(&self, order: Order, at: u32) -> Option<u32> {
        match self.ranks(order) {
            Some(ranks) => ranks.rank.get(at as usize).copied(),
            None => Some(at),
        }
    }

    /// The name at a place of the order.
    fn at(&self, order: Order, place: u32) -> Option<u32> {
        match self.ranks(order) {
            Some(ranks) => ranks.at.get(place as usize).copied(),
            None => (place < self.names.len() as u32).then_some(place),
        }
    }
}

/// What a name takes of the memory of all listings as long as nobody looks it up.
pub(super) fn cost_of(name: &[u8]) -> usize {
    name.len() + NAME_COST
}

/// Puts `count` names in an order. One that has only grown a little since is left: who looks names up while he lists would have
/// them sorted all the time.
fn sort(ranks: &mut Option<Ranks>, count: usize, compare: impl Fn(u32, u32) -> Ordering) {
    if ranks.as_ref().is_some_and(|ranks| count < ranks.at.len() + ranks.at.len() / 2) {
        return;
    }
    let mut at: Vec<_> = (0..count as u32).collect();
    at.sort_unstable_by(|one, other| compare(*one, *other));
    let mut rank = vec![0; count];
    for (place, name) in (0..).zip(&at) {
        rank[*name as usize] = place;
    }
    *ranks = Some(Ranks { at, rank });
}
