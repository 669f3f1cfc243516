//! Jobs that are put aside until they may go on: no thread waits for them.
//!
//! Files that become ready tell by epoll. Of the rest nobody tells everything: a lock is tried again when one of the same file
//! goes here, and like what is left at growing intervals of at most [`LONGEST_PAUSE`], for a local process that lets go of a
//! lock, or opens a FIFO for reading, is only found out that way.

use std::collections::HashSet;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use qnet_ipc::PeerError;

use super::{Job, Stage, State};
use crate::file::OpenFile;
use crate::limits;
use crate::locks::FileKey;
use crate::request::Work;
use crate::wait::Wait;

/// epoll's name for the timer.
pub(crate) const TIMER: u64 = u64::MAX - 1;
/// Until the second try.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// Between two tries of what has failed for a while.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What is tried again after a while, in the order in which it came.
#[derive(Debug)]
pub(super) struct Later {
    jobs: Vec<(Instant, Job)>,
    timer: TimerFd,
}

impl Later {
    /// With its timer, not yet watched by epoll.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn new() -> Result<Self, Errno> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { jobs: Vec::new(), timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)? })
    }

    /// The timer, to be watched as [`TIMER`].
    pub(super) fn timer(&self) -> &TimerFd {
        &self.timer
    }

    /// Takes out what `wanted` names.
    fn take(&mut self, wanted: impl Fn(Instant, &Job) -> bool) -> Vec<Job> {
        let taken = self.jobs.extract_if(.., |(due, job)| wanted(*due, job));
        taken.map(|(_, job)| job).collect()
    }

    /// Sets the timer to the first try that is due.
    fn set_timer(&self, now: Instant) {
        let first = self.jobs.iter().map(|(due, _)| *due).min();
        // a timer that is set to nothing is off
        let result = match first {
            Some(due) => {
                let pause = due.saturating_duration_since(now).max(Duration::from_micros(1));
                self.timer.set(Expiration::OneShot(TimeSpec::from(pause)), TimerSetTimeFlags::empty())
            }
            None => self.timer.unset(),
        };
        if let Err(errno) = result {
            tracing::error!(target: crate::LOG, "a timer cannot be set: {errno}");
        }
    }
}

impl State {
    /// Puts a job aside until it may go on.
    pub(super) fn wait_for(
        &mut self,
        mut job: Job,
        txn: u32,
        file: Option<&Arc<OpenFile>>,
        wait: Wait,
    ) -> Result<(), PeerError> {
        if job.request.cancel.is_set() {
            return self.fail_unopened(&job, txn, Errno::EINTR);
        }
        job.attempts += 1;
        match (wait, file) {
            (Wait::Ready(events), Some(file)) => self.wait_for_file(job, txn, file, events),
            // what waits for a file has one
            (Wait::Ready(_), None) => self.fail_unopened(&job, txn, Errno::EAGAIN),
            (Wait::Lock(waiting), _) => {
                let nd = job.nd;
                let of_node = |(_, job): &&(Instant, Job)| job.nd == nd && job.lock.is_some();
                if self.later.jobs.iter().filter(of_node).count() >= limits::LOCK_WAITS_PER_NODE {
                    return self.fail_unopened(&job, txn, Errno::ENOLCK);
                }
                job.lock = Some(waiting);
                self.try_later(job, txn);
                Ok(())
            }
            (Wait::Later, _) => {
                let nd = job.nd;
                let of_node = |(_, job): &&(Instant, Job)| job.nd == nd && job.lock.is_none();
                let waiting = self.shares.entry(nd).or_default().waiting;
                if waiting >= limits::WAITING_PER_NODE
                    || self.later.jobs.iter().filter(of_node).count() >= limits::TRIED_PER_NODE
                {
                    return self.fail_unopened(&job, txn, Errno::EAGAIN);
                }
                self.try_later(job, txn);
                Ok(())
            }
        }
    }

    fn wait_for_file(
        &mut self,
        mut job: Job,
        txn: u32,
        file: &Arc<OpenFile>,
        events: PollFlags,
    ) -> Result<(), PeerError> {
        let share = self.shares.entry(job.nd).or_default();
        if share.waiting >= limits::WAITING_PER_NODE || job.attempts > limits::WAIT_ATTEMPTS {
            return self.fail(txn, Errno::EAGAIN);
        }
        job.events = events;
        let fd = file.fd().as_raw_fd();
        let others = self.waiting.get(&fd).map_or(&[][..], Vec::as_slice);
        let mut event = EpollEvent::new(once(events | all_events(others)), fd as u64);
        let watched = match others {
            [] => self.epoll.add(file.fd(), event),
            _ => self.epoll.modify(file.fd(), &mut event),
        };
        // what epoll does not know (EPERM) cannot be waited for
        if watched.is_err() {
            return self.fail(txn, Errno::EAGAIN);
        }
        share.waiting += 1;
        self.note_stage(txn, Stage::Waiting(fd));
        self.waiting.entry(fd).or_default().push(job);
        Ok(())
    }

    fn try_later(&mut self, job: Job, txn: u32) {
        let now = Instant::now();
        let doubled = SHORTEST_PAUSE * 2_u32.pow(job.attempts.saturating_sub(1).min(5));
        self.shares.entry(job.nd).or_default().waiting += usize::from(job.lock.is_none());
        self.note_stage(txn, Stage::Later);
        self.later.jobs.push((now + doubled.min(LONGEST_PAUSE), job));
        self.later.set_timer(now);
    }

    fn note_stage(&mut self, txn: u32, stage: Stage) {
        if let Some(transaction) = self.transactions.get_mut(&txn) {
            transaction.stage = stage;
        }
    }

    /// A file that jobs wait for is ready: those are tried again that wait for what is there. The others wait on, and it does
    /// not count as a vain attempt of theirs: a terminal that takes bytes now and then says nothing for as long as it likes.
    pub(crate) fn on_file_ready(&mut self, fd: RawFd) {
        let Some(jobs) = self.waiting.remove(&fd) else { return };
        let there = jobs.first().and_then(|job| what_is_there(&job.request.work, &jobs));
        let (mut ready, mut stay): (Vec<Job>, Vec<Job>) =
            jobs.into_iter().partition(|job| there.is_none_or(|there| there.intersects(job.events | ENDED)));
        if ready.is_empty() || self.watch_on(fd, &stay).is_err() {
            ready.append(&mut stay);
        }
        if !stay.is_empty() {
            self.waiting.insert(fd, stay);
        }
        for job in ready {
            self.stop_waiting(&job);
            self.try_again(job);
        }
    }

    /// A file that has been ready once is watched on for these, if there are any.
    fn watch_on(&self, fd: RawFd, jobs: &[Job]) -> Result<(), Errno> {
        let Some(Work::File { file, .. }) = jobs.first().map(|job| &job.request.work) else { return Ok(()) };
        self.epoll.modify(file.fd(), &mut EpollEvent::new(once(all_events(jobs)), fd as u64))
    }

    /// The timer has gone off: what is due is tried again.
    pub(crate) fn on_timer(&mut self) {
        // how often it went off does not matter
        let _ = self.later.timer.wait();
        let now = Instant::now();
        self.retry_later(|due, _| due <= now);
    }

    /// Locks of these files have gone: those who wait for one are tried again.
    pub(crate) fn retry_locks(&mut self, freed: &HashSet<FileKey>) {
        self.retry_later(|_, job| job.lock.as_ref().is_some_and(|lock| freed.contains(&lock.file())));
    }

    fn retry_later(&mut self, wanted: impl Fn(Instant, &Job) -> bool) {
        for job in self.later.take(wanted) {
            self.stop_later(&job);
            self.try_again(job);
        }
        self.later.set_timer(Instant::now());
    }

    fn try_again(&mut self, mut job: Job) {
        // who is tried is not waiting: the next try says anew whom it waits for
        job.lock = None;
        if let Some((txn, _)) = job.txn {
            self.note_stage(txn, Stage::Queued);
        }
        self.enqueue(job);
    }

    fn stop_waiting(&mut self, job: &Job) {
        if let Some(share) = self.shares.get_mut(&job.nd) {
            share.waiting = share.waiting.saturating_sub(1);
        }
        if let Work::File { file, .. } = &job.request.work
            && !self.waiting.contains_key(&file.fd().as_raw_fd())
        {
            // an error means that it was taken off for another job already
            let _ = self.epoll.delete(file.fd());
        }
    }

    fn stop_later(&mut self, job: &Job) {
        if job.lock.is_none()
            && let Some(share) = self.shares.get_mut(&job.nd)
        {
            share.waiting = share.waiting.saturating_sub(1);
        }
    }

    /// Takes the waiting jobs that `gone` names off their files.
    pub(super) fn cancel_waiting(&mut self, fd: RawFd, gone: impl Fn(&Job) -> bool) {
        let Some(jobs) = self.waiting.remove(&fd) else { return };
        let (gone, stay): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(gone);
        if !stay.is_empty() {
            self.waiting.insert(fd, stay);
        }
        gone.iter().for_each(|job| self.stop_waiting(job));
    }

    /// The same for what would be tried later.
    pub(super) fn cancel_later(&mut self, gone: impl Fn(&Job) -> bool) {
        for job in self.later.take(|_, job| gone(job)) {
            self.stop_later(&job);
        }
        self.later.set_timer(Instant::now());
    }

    /// Ends the transaction of a job that may have been an open.
    fn fail_unopened(&mut self, job: &Job, txn: u32, errno: Errno) -> Result<(), PeerError> {
        if let Some((_, serial)) = job.txn {
            self.unreserve_file(job.conn, job.coid, serial);
        }
        self.fail(txn, errno)
    }
}

/// What whoever waits for a file has to know in any case.
const ENDED: PollFlags = PollFlags::POLLERR.union(PollFlags::POLLHUP).union(PollFlags::POLLNVAL);

/// What any of these waits for.
fn all_events(jobs: &[Job]) -> PollFlags {
    jobs.iter().fold(PollFlags::empty(), |all, job| all | job.events)
}

/// As epoll is told: both kinds of flags have the same bits.
fn once(events: PollFlags) -> EpollFlags {
    EpollFlags::from_bits_truncate(events.bits().into()) | EpollFlags::EPOLLONESHOT
}

/// Which of what these wait for the file of `work` has now; `None` if it does not say.
fn what_is_there(work: &Work, jobs: &[Job]) -> Option<PollFlags> {
    let Work::File { file, .. } = work else { return None };
    let mut fds = [PollFd::new(file.fd(), all_events(jobs))];
    poll(&mut fds, PollTimeout::ZERO).ok()?;
    fds[0].revents()
}
