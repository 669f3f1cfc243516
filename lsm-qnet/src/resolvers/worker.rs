//! Threads that look names up where that may take its time.
//!
//! A pool has a bounded queue and a bounded number of threads, started one by one as questions pile up. The threads are
//! not waited for at the end: a question to a dead name server may take half a minute, and an answer that nobody waits
//! for any more goes nowhere. (A module's code stays mapped for ever, so a late thread has something to return to.)

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, SyncSender, sync_channel},
    },
    thread,
};

use qnet_proto::{Fqnn, LinkAddr};

/// Questions that may wait for a thread.
const MAX_WAITING: usize = 256;

/// A question.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    /// The core's number of it.
    pub(crate) lookup: u32,
    pub(crate) name: Fqnn,
}

/// An answer; without addresses: not known.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) lookup: u32,
    pub(crate) addresses: Vec<LinkAddr>,
}

/// What a thread does for each question.
pub(crate) type Ask = Box<dyn FnMut(&Fqnn) -> Vec<LinkAddr> + Send>;

/// Threads of one kind.
pub(crate) struct Pool {
    questions: SyncSender<Lookup>,
    shared: Arc<Shared>,
    threads: usize,
    most: usize,
    name: String,
    make: Box<dyn FnMut() -> Ask + Send>,
}

struct Shared {
    queue: Mutex<Receiver<Lookup>>,
    /// Questions asked and not answered yet.
    open: AtomicUsize,
    answers: Sender<Answer>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Pool {
    /// A pool of at most `most` threads; `make` gives each its way to answer, `wake` tells that an answer is there.
    pub(crate) fn new(
        name: &str,
        most: usize,
        answers: Sender<Answer>,
        wake: impl Fn() + Send + Sync + 'static,
        make: impl FnMut() -> Ask + Send + 'static,
    ) -> Self {
        let (questions, queue) = sync_channel(MAX_WAITING);
        let shared =
            Shared { queue: Mutex::new(queue), open: AtomicUsize::new(0), answers, wake: Box::new(wake) };
        let shared = Arc::new(shared);
        Self { questions, shared, threads: 0, most, name: name.to_owned(), make: Box::new(make) }
    }

    /// Asks; false when there is no room, or no thread to be had.
    pub(crate) fn ask(&mut self, question: Lookup) -> bool {
        let open = self.shared.open.load(Ordering::Relaxed);
        if open >= self.threads && self.threads < self.most {
            self.start();
        }
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        let taken = self.threads > 0 && self.questions.try_send(question).is_ok();
        if !taken {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn start(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut ask = (self.make)();
        let thread = thread::Builder::new().name(self.name.clone()).spawn(move || {
            while let Some(Lookup { lookup, name }) = shared.next() {
                let addresses = ask(&name);
                shared.open.fetch_sub(1, Ordering::Relaxed);
                if shared.answers.send(Answer { lookup, addresses }).is_err() {
                    return;
                }
                (shared.wake)();
            }
        });
        match thread {
            Ok(_) => self.threads += 1,
            Err(error) => tracing::warn!("{}: cannot start a thread: {error}", self.name),
        }
    }
}

impl Shared {
    /// The next question; `None` at the end.
    fn next(&self) -> Option<Lookup> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Duration};

    use qnet_proto::Domain;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn question(lookup: u32, name: &str) -> Lookup {
        Lookup { lookup, name: Fqnn::parse(name, &Domain::default()).unwrap() }
    }

    #[test]
    fn a_slow_name_delays_no_other() {
        let (sender, answers) = channel();
        let (release, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let make = move || -> Ask {
            let held = Arc::clone(&held);
            Box::new(move |name| {
                if name.name.as_str() == "slow" {
                    held.lock().unwrap().recv().unwrap();
                }
                vec![LinkAddr::mac([2, 0, 0, 0, 0, 1])]
            })
        };
        let mut pool = Pool::new("test", 2, sender, || {}, make);
        assert!(pool.ask(question(1, "slow")) && pool.ask(question(2, "quick")));
        assert_eq!(answers.recv_timeout(PATIENCE).unwrap().lookup, 2);
        release.send(()).unwrap();
        assert_eq!(answers.recv_timeout(PATIENCE).unwrap().lookup, 1);
    }

    #[test]
    fn a_crowd_of_questions_is_turned_away_and_not_kept() {
        let (sender, answers) = channel();
        let (release, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let make = move || -> Ask {
            let held = Arc::clone(&held);
            Box::new(move |_| {
                // Ends when the test lets go.
                let _over = held.lock().unwrap().recv();
                Vec::new()
            })
        };
        let mut pool = Pool::new("test", 1, sender, || {}, make);
        let taken = (0..1000).filter(|&i| pool.ask(question(i, "joseph"))).count();
        assert!((MAX_WAITING..=MAX_WAITING + 1).contains(&taken), "{taken}");
        drop(release);
        for _ in 0..taken {
            answers.recv_timeout(PATIENCE).unwrap();
        }
    }
}
