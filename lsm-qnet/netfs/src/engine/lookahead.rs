//! Look-ups that are made ahead: who lists a large directory first and looks its names up afterwards waits for one message in
//! hundreds of names, not for one each.
//!
//! The kernel asks for attributes with a listing only while somebody looks names up; `find` of a large directory reads all of
//! it before. So the names that the kernel gets without attributes are kept ([`Listing`]), and when a thread looks them up in an
//! order, the node is asked for those that come next, many in one message ([`filesys::Request::Entries`]). A look-up of one of
//! them waits for that answer instead of asking by itself.
//!
//! What comes so is as fresh as what a look-up brings: it is given to the kernel only for what is left of [`LIFETIME`], and not
//! after anything was changed from here since it was asked for, nor after the kernel was told of the file otherwise. As all
//! that is remembered, it concerns only directories that everybody may search. A name of which the node does not tell is looked
//! up by itself.
//!
//! Bounds: [`MAX_COST`] bytes for all listings, of which those unused for longest go first; a directory that is larger is known
//! in part. What is asked for at the moment may exceed it by the names of one message. A listing that nobody has used for
//! [`UNUSED`] is forgotten.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::{Duration, Instant},
};

use qnet_iomsg::{
    Connect, DirentWriter, Dirents, Link as Chain,
    filesys::{self, EntryNames},
};
use tracing::debug;

use super::{
    Engine, Owner,
    entries::Origin,
    job::Job,
    listing::{Listing, Ready, cost_of},
    names::LIFETIME,
    task::{Name, Task},
};
use crate::{
    caller::Caller,
    fuse::{Operation, abi::InHeader, reply},
    inodes::{Kind, Location},
    link::{Failure, Reply, Request, SessionId, Target, TxnId},
};

/// Memory of all names that were listed, by [`Listing::cost`].
const MAX_COST: usize = 16 << 20;
/// After so long an unused listing is forgotten.
const UNUSED: Duration = Duration::from_secs(60);

/// What was listed, by the directory's nodeid.
#[derive(Debug, Default)]
pub(super) struct Listings {
    listings: HashMap<u64, Listing>,
    /// The directories by [`Listing::turn`]: one user could have so many listings that looking through all of them for the one to
    /// forget would hold up everybody else.
    by_use: BTreeMap<u64, u64>,
    cost: usize,
    /// The last turn and id that was given.
    last: u64,
    /// When those that are not used any more are looked for.
    sweep: Option<Instant>,
}

/// Names that a node is asked for ahead.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    directory: u64,
    /// The listing that the places are in.
    listing: u64,
    /// Places of the names, in the order of the message.
    names: Vec<u32>,
    /// Whose run they continue.
    thread: u32,
    /// Who asks.
    uid: u32,
    session: SessionId,
    changes: u64,
    /// [`Engine::answers`] when it was sent.
    asked: u64,
    /// Look-ups that wait for it, with the places of their names.
    waiting: Vec<(u64, u32)>,
}

impl Listings {
    /// When [`Self::sweep`] wants to be called.
    pub(super) fn next(&self) -> Option<Instant> {
        self.sweep
    }

    /// The memory that they take.
    #[cfg(test)]
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.listings.len(), self.by_use.len());
        assert_eq!(self.listings.values().map(Listing::cost).sum::<usize>(), self.cost);
        self.listings.len()
    }

    /// Whether names of a directory are known.
    #[cfg(test)]
    pub(super) fn has(&self, directory: u64) -> bool {
        self.listings.contains_key(&directory)
    }

    /// Forgets what nobody uses, when it is time to.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.sweep.is_none_or(|at| now < at) {
            return;
        }
        while let Some(oldest) = self.by_use.values().next().copied()
            && self.listings.get(&oldest).is_none_or(|listing| listing.used + UNUSED <= now)
        {
            self.forget(oldest);
        }
        self.sweep = (!self.listings.is_empty()).then(|| now + UNUSED);
    }

    /// Notes names that `reader` has been given without attributes.
    fn note(&mut self, now: Instant, directory: u64, reader: u64, names: Vec<(Box<[u8]>, u64)>) {
        let goes_on = |listing: &Listing| listing.reader == reader && !listing.has_runs();
        if !self.listings.get(&directory).is_some_and(goes_on) {
            self.forget(directory);
            self.last += 1;
            let listing = Listing::new(self.last, reader, now);
            self.cost += listing.cost();
            self.by_use.insert(listing.turn, directory);
            self.listings.insert(directory, listing);
            self.sweep.get_or_insert(now + UNUSED);
        }
        let added: usize = names.iter().map(|(name, _)| cost_of(name)).sum();
        self.touch(now, directory);
        if self.make_room(directory, added) {
            self.change(directory, |listing| {
                names.into_iter().for_each(|(name, ino)| listing.push(name, ino))
            });
        }
    }

    /// Forgets other listings until one has room for `added` bytes more; whether it has.
    fn make_room(&mut self, directory: u64, added: usize) -> bool {
        while self.cost + added > MAX_COST {
            let Some(oldest) = self.by_use.values().find(|other| **other != directory).copied() else {
                return false;
            };
            self.forget(oldest);
        }
        true
    }

    /// A listing is of use.
    fn touch(&mut self, now: Instant, directory: u64) {
        let Some(listing) = self.listings.get_mut(&directory) else { return };
        listing.used = now;
        if listing.turn != self.last {
            self.last += 1;
            self.by_use.remove(&listing.turn);
            self.by_use.insert(self.last, directory);
            listing.turn = self.last;
        }
    }

    /// Does something with a listing that may change what it costs.
    fn change<T>(&mut self, directory: u64, change: impl FnOnce(&mut Listing) -> T) -> Option<T> {
        let listing = self.listings.get_mut(&directory)?;
        self.cost -= listing.cost();
        let result = change(listing);
        self.cost += listing.cost();
        Some(result)
    }

    fn forget(&mut self, directory: u64) {
        if let Some(listing) = self.listings.remove(&directory) {
            self.by_use.remove(&listing.turn);
            self.cost -= listing.cost();
        }
    }

    /// Whether the listing that a batch is for is still there.
    fn is_for(&self, batch: &Batch) -> bool {
        self.listings.get(&batch.directory).is_some_and(|listing| listing.id == batch.listing)
    }
}

impl Engine {
    /// Names of a directory that an open handle was given without attributes, with their inode numbers. A second handle that reads
    /// the same directory meanwhile adds nothing.
    pub(super) fn note_listed(
        &mut self,
        now: Instant,
        directory: u64,
        fh: u64,
        is_first: bool,
        names: Vec<(Box<[u8]>, u64)>,
    ) {
        let reader = self.listings.listings.get(&directory).map(|listing| listing.reader);
        if is_first && (reader == Some(fh) || !names.is_empty()) {
            self.listings.forget(directory);
        } else if reader.is_some_and(|reader| reader != fh && self.handles.contains_key(&reader)) {
            return;
        }
        if !names.is_empty() && !self.remembers_nothing_below(directory) {
            self.listings.note(now, directory, fh, names);
        }
    }

    /// Begins a look-up of a name on a node, or answers it with what is known ahead.
    pub(super) fn look_up(&mut self, now: Instant, header: &InHeader, operation: Operation<'_>, name: &[u8]) {
        let directory = header.nodeid;
        let Some(at) = self.listings.listings.get_mut(&directory).and_then(|listing| listing.find(name))
        else {
            return self.start(now, header, operation);
        };
        let caller = self.caller(header);
        if self.lifetime_below(now, directory, &caller).is_zero() {
            return self.start(now, header, operation);
        }
        self.listings.touch(now, directory);
        let Some(listing) = self.listings.listings.get_mut(&directory) else { return };
        let (ahead, id) = (listing.look_up(now, header.pid, at), listing.id);
        if let Some(answer) =
            self.answer_ahead(now, (header.unique, header.pid), (directory, name), at, &caller)
        {
            self.replies.push_back(answer);
        } else if !self.waits_for_batch(now, header, at, name, &caller) {
            self.start(now, header, operation);
        }
        if !ahead.is_empty() {
            self.ask_ahead(now, directory, id, header.pid, ahead, &caller);
        }
    }

    /// The answer to a look-up whose name was asked for ahead.
    fn answer_ahead(
        &mut self,
        now: Instant,
        (unique, thread): (u64, u32),
        (directory, name): (u64, &[u8]),
        at: u32,
        caller: &Rc<Caller>,
    ) -> Option<Vec<u8>> {
        let changes = self.changes;
        let ready = self.listings.change(directory, |listing| listing.take(now, at, changes))??;
        let age = now.saturating_duration_since(ready.fetched);
        let lifetime = self.lifetime_below(now, directory, caller).saturating_sub(age);
        if lifetime.is_zero() {
            return None;
        }
        if self.knows_better((directory, name), &ready.stat, ready.origin) {
            return None;
        }
        let about = (thread, lifetime, ready.origin.came);
        let entry = self.named_for(now, (directory, name), &ready.stat, about)?;
        self.note_bare(now, entry.nodeid, &ready.stat, lifetime, ready.uid);
        Some(reply::body(unique, &entry))
    }

    /// Has a look-up wait for the answer that is under way for its name; false if there is none that would be fresh.
    fn waits_for_batch(
        &mut self,
        now: Instant,
        header: &InHeader,
        at: u32,
        name: &[u8],
        caller: &Rc<Caller>,
    ) -> bool {
        let (unique, changes) = (header.unique, self.changes);
        let txn = self.listings.listings.get(&header.nodeid).and_then(|listing| listing.under_way(at));
        let Some(Owner::Ahead(batch)) = txn.and_then(|txn| self.owners.get_mut(&txn)) else { return false };
        if batch.changes != changes {
            return false;
        }
        batch.waiting.push((unique, at));
        let deadline = now + self.config.deadline;
        self.deadlines.insert((deadline, unique));
        let task = Task::Lookup(Name { parent: header.nodeid, name: name.into() });
        self.jobs.insert(unique, Job::new(task, Rc::clone(caller), header.pid, Some(deadline)));
        true
    }

    /// Asks the node for names at these places of a listing.
    fn ask_ahead(
        &mut self,
        now: Instant,
        directory: u64,
        listing: u64,
        thread: u32,
        names: Vec<u32>,
        caller: &Rc<Caller>,
    ) {
        let sent = self.send_ahead(now, directory, &names, caller);
        let Some((session, txn)) = sent else {
            self.listings.change(directory, |listing| listing.on_answered(now, thread, &[]));
            return;
        };
        self.listings.change(directory, |listing| listing.on_asked(&names, txn));
        self.listings.make_room(directory, 0);
        let (changes, asked, uid, waiting) = (self.changes, self.answers, caller.uid, Vec::new());
        let batch = Batch { directory, listing, names, thread, uid, session, changes, asked, waiting };
        self.owners.insert(txn, Owner::Ahead(Box::new(batch)));
    }

    fn send_ahead(
        &mut self,
        now: Instant,
        directory: u64,
        names: &[u32],
        caller: &Rc<Caller>,
    ) -> Option<(SessionId, TxnId)> {
        let listing = self.listings.listings.get(&directory)?;
        let names: Vec<_> = names.iter().filter_map(|at| listing.name(*at)).collect();
        let room = names.iter().map(|name| DirentWriter::room_for(name.len())).sum();
        let text: Vec<u8> = names.iter().flat_map(|name| [*name, b"\0"]).flatten().copied().collect();
        let Location { node, path, guard } = self.inodes.location(directory)?;
        let mut chain = Vec::new();
        if let Kind::File(id) = self.inodes.get(directory)?.kind() {
            filesys::Request::Expect(id.identity()).emit(Chain::Follows, &mut chain);
        }
        filesys::Request::Entries(EntryNames::new(&text).ok()?).emit(Chain::Last, &mut chain);
        let message = Connect::combine_close(&path, false, &chain).guarded(guard).emit().ok()?;
        let nd = self.inodes.nd(node, self.link.generation())?;
        let target = Target::Node { nd, caller: Rc::clone(caller) };
        let coid = self.next_coid();
        let session = self.link.session(now, &target).ok()?;
        let txn = self.link.request(session, Request::new(coid, message, room)).ok()?;
        Some((session, txn))
    }

    /// The node has told of names that it was asked for ahead, or will not.
    pub(super) fn on_ahead(&mut self, now: Instant, batch: &Batch, result: Result<Reply, Failure>) {
        let came = self.answers;
        if let Err(Failure { lost: true, .. }) = result {
            self.link.retire(batch.session);
        }
        if self.listings.is_for(batch) {
            self.listings.change(batch.directory, |listing| {
                listing.on_answered(now, batch.thread, &batch.names);
                batch.put_into(listing, now, came, result);
            });
        }
        for (unique, at) in &batch.waiting {
            // Those who were interrupted meanwhile are gone.
            let Some(job) = self.jobs.remove(unique) else { continue };
            let Task::Lookup(name) = &job.task else { continue };
            let answer = if self.listings.is_for(batch) {
                self.answer_ahead(now, (*unique, job.thread), (batch.directory, &name.name), *at, &job.caller)
            } else {
                None
            };
            match answer {
                Some(answer) => self.finish(*unique, &job, answer),
                None => self.advance(now, *unique, job, None),
            }
        }
    }
}

impl Batch {
    /// Notes what the node has told, with the answer that has come as number `came`, or that it does not.
    fn put_into(&self, listing: &mut Listing, now: Instant, came: u64, result: Result<Reply, Failure>) {
        let Self { changes, asked, thread, uid, .. } = *self;
        let origin = Origin { asked, came };
        let reply = match result {
            Ok(reply) => reply,
            Err(failure) => {
                debug!(self.directory, failure.errno, "names are not told of ahead");
                listing.barren |= !failure.lost && is_for_good(failure.errno);
                return;
            }
        };
        let length = usize::try_from(reply.status).unwrap_or(0);
        let data = reply.buffer.data();
        for told in Dirents::new(&data[..length.min(data.len())]) {
            let Ok(told) = told else { break };
            let place = usize::try_from(told.next).unwrap_or(0).wrapping_sub(1);
            if let (Some(at), Some(stat)) = (self.names.get(place), told.stat)
                && listing.name(*at) == Some(told.name)
            {
                let stat = Box::new(stat);
                listing.put(*at, Ready { stat, fetched: now, changes, origin, uid, thread });
            }
        }
    }
}

/// Whether a node that has refused to tell of several names at once will do so the next time: it knows no such request, or the
/// directory is another. Other errors pass, or a run that asks in vain finds out ([`Listing::look_up`]).
fn is_for_good(errno: i32) -> bool {
    matches!(errno, libc::ENOSYS | libc::EOPNOTSUPP | libc::ESTALE | libc::ENOTDIR)
}

/// What is left of the time for which attributes that came at `fetched` may be remembered.
pub(super) fn left(now: Instant, fetched: Instant) -> Duration {
    LIFETIME.saturating_sub(now.saturating_duration_since(fetched))
}
