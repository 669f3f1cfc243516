//! Random operations on one file by two at a time, held against a model of what they may see.
//!
//! Each seed is a run of its own; a run that fails prints its seed and what was done. `QNET_FILE_SEED=N` runs that one
//! alone. Called with `FILE_ACTOR=PATH` in its environment this program is one of the two (`actor`); what they may see
//! is in `model`. First both are on a local file, which proves the model, then on two nodes, with caches and without.

mod actor;
mod model;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, Player};

use crate::actor::bytes;
use crate::model::{History, MOST, View, put};

/// Operations of a run.
const STEPS: usize = 120;

const CASES: &[system_tests::Case] = &[
    system_tests::Case {
        name: "two_on_a_local_file_keep_to_the_model",
        needs: &[Need::RootNodes],
        run: two_on_a_local_file,
    },
    system_tests::Case {
        name: "two_nodes_on_one_file_keep_to_the_model",
        needs: &[Need::RootNodes, Need::Fuse],
        run: two_nodes_on_one_file,
    },
    system_tests::Case {
        name: "two_nodes_without_caches_see_every_change_at_once",
        needs: &[Need::RootNodes, Need::Fuse],
        run: two_nodes_without_caches,
    },
    system_tests::Case {
        name: "writes_of_two_nodes_at_the_same_time_do_not_mix",
        needs: &[Need::RootNodes, Need::Fuse],
        run: at_the_same_time,
    },
];

fn main() -> ExitCode {
    let Some(path) = std::env::var_os("FILE_ACTOR") else { return system_tests::main(CASES) };
    match actor::act(Path::new(&path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The seeds to run: one from the environment, `usual`, or many in a soak.
fn seeds(usual: u64, many: u64) -> Result<std::ops::Range<u64>> {
    if let Some(seed) = std::env::var_os("QNET_FILE_SEED") {
        let seed: u64 = seed.to_str().and_then(|seed| seed.parse().ok()).context("QNET_FILE_SEED")?;
        return Ok(seed..seed + 1);
    }
    Ok(0..if std::env::var_os("IO_PKT_SOAK").is_some() { many } else { usual })
}

fn two_on_a_local_file() -> Result<()> {
    let pair = Pair::bare()?;
    let file = "/tmp/model";
    pair.alonzo.shell(&format!("touch {file}"))?;
    play([&pair.alonzo, &pair.alonzo], file, seeds(20, 20)?, true)
}

fn two_nodes_on_one_file() -> Result<()> {
    two_nodes("cache=open", seeds(20, 10_000)?, false)
}

fn two_nodes_without_caches() -> Result<()> {
    two_nodes("cache=none", seeds(10, 2000)?, true)
}

/// The node that has the file uses it by way of `/net`, too, so that both have caches.
fn two_nodes(cache: &str, seeds: std::ops::Range<u64>, strict: bool) -> Result<()> {
    let qnet = vec!["mapany=off".to_owned(), cache.to_owned()];
    let pair = Pair::up(&Options { qnet, ..Options::default() })?;
    pair.joseph.shell("touch /tmp/model")?;
    play([&pair.alonzo, &pair.joseph], "/net/joseph/tmp/model", seeds, strict)
}

/// Both write places that overlap, neither waiting for the other: where they do, all is from one of them.
fn at_the_same_time() -> Result<()> {
    const PAGE: usize = 4096;
    /// Pages of the longest write that is one request: FUSE takes 256, and a buffer that does not begin with a page touches
    /// one more than it has.
    const LONGEST: usize = 255;
    let qnet = vec!["mapany=off".to_owned()];
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options { qnet, ..Options::default() })?;
    joseph.shell("touch /tmp/model")?;
    let there = "/net/joseph/tmp/model";
    let mut actors = [Actor::start(alonzo, there)?, Actor::start(joseph, there)?];
    let mut judge = Actor::start(joseph, "/tmp/model")?;
    let mut dice = Dice(1);
    for round in seeds(100, 20_000)? {
        // through the page cache, past it because they ask for it, and because they do not read
        let flags = [0, libc::O_DIRECT, libc::O_WRONLY][dice.below(3)];
        let middle = PAGE * LONGEST;
        let writes: [_; 2] = std::array::from_fn(|_| {
            let (before, behind) = (1 + dice.below(LONGEST / 2), dice.below(LONGEST / 2));
            (middle - PAGE * before, PAGE * (before + 1 + behind), dice.next() >> 1)
        });
        let orders = writes.map(|(at, len, seed)| format!("write {at} {len} {seed}"));
        for actor in &mut actors {
            actor.does(&format!("open {flags}"))?;
        }
        for (actor, order) in actors.iter_mut().zip(&orders) {
            actor.0.order(order)?;
        }
        for (actor, order) in actors.iter_mut().zip(&orders) {
            actor.did(order)?;
        }
        judge.does("open 0")?;
        let begin = writes.iter().map(|(at, ..)| *at).max().context("there are two")?;
        let end = writes.iter().map(|(at, len, _)| at + len).min().context("there are two")?;
        let found = judge.does(&format!("read {begin} {}", end - begin))?;
        judge.does("close")?;
        let of_one = writes.iter().any(|(_, _, seed)| found == bytes(begin, end - begin, *seed));
        ensure!(of_one, "round {round}: {orders:?} are mixed from {begin} to {end}");
    }
    Ok(())
}

/// Runs the seeds; `strict`: what is read is the present version always.
fn play(nodes: [&Node; 2], path: &str, seeds: std::ops::Range<u64>, strict: bool) -> Result<()> {
    let mut actors = [Actor::start(nodes[0], path)?, Actor::start(nodes[1], path)?];
    for seed in seeds {
        let mut run = Run::new(seed, strict);
        let outcome = run.play(&mut actors);
        outcome.with_context(|| format!("QNET_FILE_SEED={seed}:\n{}", run.log))?;
    }
    Ok(())
}

/// A process of a node that uses the file.
struct Actor(Player);

impl Actor {
    fn start(node: &Node, path: &str) -> Result<Self> {
        Player::of_this_program(node, &format!("FILE_ACTOR={path}"), &[]).map(Self)
    }

    /// Does one thing; gives what was read. Every operation of a run is one that works.
    fn does(&mut self, order: &str) -> Result<Vec<u8>> {
        self.0.order(order)?;
        self.did(order)
    }

    /// What came of it.
    fn did(&mut self, order: &str) -> Result<Vec<u8>> {
        let answer = self.0.hear()?;
        let len = answer.strip_prefix("ok ").and_then(|len| len.parse().ok());
        self.0.hear_bytes(len.with_context(|| format!("{order}: {answer:?}"))?)
    }
}

/// Numbers that depend on the seed alone.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A length or a place: small ones, those beside a page's end, any.
    fn size(&mut self, most: usize) -> usize {
        let size = match self.below(4) {
            0 => self.below(10),
            1 => (4096 * (1 + self.below(8)) + self.below(3)).saturating_sub(1),
            2 => self.below(5000),
            _ => self.below(most + 1),
        };
        size.min(most)
    }
}

/// One run.
struct Run {
    dice: Dice,
    history: History,
    /// What each of the two knows of the file by each of his opens; he uses the first.
    views: [[Option<View>; 2]; 2],
    strict: bool,
    log: String,
}

impl Run {
    fn new(seed: u64, strict: bool) -> Self {
        let (dice, history) = (Dice(seed), History::new());
        Self { dice, history, views: Default::default(), strict, log: String::new() }
    }

    fn play(&mut self, actors: &mut [Actor; 2]) -> Result<()> {
        for actor in actors.iter_mut() {
            for order in ["close", "swap", "close"] {
                actor.does(order)?;
            }
        }
        actors[0].does("truncate 0")?;
        for _ in 0..STEPS {
            let who = self.dice.below(2);
            self.step(who, &mut actors[who])?;
        }
        // In the end both see the same.
        for (who, actor) in actors.iter_mut().enumerate() {
            for order in ["close", "swap", "close"] {
                self.told(who, actor, order)?;
            }
        }
        self.views = Default::default();
        for (who, actor) in actors.iter_mut().enumerate() {
            self.look(who, actor)?;
        }
        Ok(())
    }

    fn told(&mut self, who: usize, actor: &mut Actor, order: &str) -> Result<Vec<u8>> {
        // Writing to a string does not fail.
        let _ = writeln!(self.log, "{who}: {order}");
        actor.does(order)
    }

    fn step(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        if self.dice.below(12) == 0 {
            self.views[who].swap(0, 1);
            return self.told(who, actor, "swap").map(drop);
        }
        if self.views[who][0].is_none() {
            return match self.dice.below(8) {
                0 => self.truncate(who, actor),
                1 => self.map(who, actor),
                2 => self.look(who, actor),
                _ => self.open(who, actor),
            };
        }
        match self.dice.below(20) {
            0..=5 if self.views[who][0].as_ref().is_some_and(View::is_read) => self.read(who, actor),
            0..=10 => self.write(who, actor),
            11 | 12 => self.append(who, actor),
            13 => self.cut(who, actor),
            14 => self.punch(who, actor),
            15 => self.copy(who, actor),
            16 => self.size(who, actor),
            17 => self.look(who, actor),
            _ => {
                self.views[who][0] = None;
                self.told(who, actor, "close").map(drop)
            }
        }
    }

    fn open(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let flags = match self.dice.below(9) {
            0..=2 => libc::O_DIRECT,
            3 => libc::O_TRUNC,
            4 => libc::O_WRONLY | libc::O_TRUNC,
            5 | 6 => libc::O_WRONLY,
            _ => 0,
        };
        if flags & libc::O_TRUNC != 0 {
            self.changed(who, 0, MOST, Vec::clear);
        }
        self.told(who, actor, &format!("open {flags}"))?;
        let view = View::open(&self.history, self.strict || flags == libc::O_DIRECT);
        self.views[who][0] = Some(if flags & libc::O_WRONLY == 0 { view } else { view.only_written() });
        Ok(())
    }

    fn read(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let at = self.dice.size(MOST - 1);
        let len = self.dice.size(MOST - at);
        let read = self.told(who, actor, &format!("read {at} {len}"))?;
        let view = self.views[who][0].as_ref().context("it is open")?;
        view.may_read(&self.history, at, len, &read)
            .map_err(|wrong| anyhow::anyhow!("read {at} {len}: {wrong}"))
    }

    fn write(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let at = self.dice.size(MOST - 1);
        let len = self.dice.size(MOST - at);
        let seed = self.dice.next() >> 1;
        self.told(who, actor, &format!("write {at} {len} {seed}"))?;
        self.changed(who, at, at + len, |file| {
            if len > 0 {
                put(file, at, &bytes(at, len, seed));
            }
        });
        Ok(())
    }

    /// Opens once more for it, as programs that append do.
    fn append(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let (end, seed) = (self.history.now().len(), self.dice.next() >> 1);
        let len = self.dice.size(MOST - end);
        self.told(who, actor, &format!("open {}", libc::O_APPEND))?;
        self.views[who][0] = Some(View::open(&self.history, self.strict));
        self.told(who, actor, &format!("append {len} {seed}"))?;
        self.changed(who, end, end + len, |file| put(file, end, &bytes(0, len, seed)));
        self.read(who, actor)?;
        // Writes with a place would append as well.
        self.views[who][0] = None;
        self.told(who, actor, "close").map(drop)
    }

    fn cut(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let size = self.dice.size(MOST);
        self.told(who, actor, &format!("cut {size}"))?;
        let before = self.history.now().len();
        self.changed(who, size.min(before), MOST, |file| file.resize(size, 0));
        Ok(())
    }

    fn truncate(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let size = self.dice.size(MOST);
        self.told(who, actor, &format!("truncate {size}"))?;
        let before = self.history.now().len();
        self.changed(who, size.min(before), MOST, |file| file.resize(size, 0));
        Ok(())
    }

    fn punch(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let at = self.dice.size(MOST - 1);
        let len = 1 + self.dice.size(MOST - at - 1);
        self.told(who, actor, &format!("punch {at} {len}"))?;
        self.changed(who, at, at + len, |file| {
            let end = (at + len).min(file.len());
            if at < end {
                file[at..end].fill(0);
            }
        });
        Ok(())
    }

    /// From the first half of the file to the second.
    fn copy(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let size = self.history.now().len();
        let from = self.dice.size(MOST / 4).min(size);
        // Copying further would read what it has written itself.
        let len = self.dice.size(MOST / 4).min(size - from);
        let to = MOST / 2 + self.dice.size(MOST / 4);
        self.told(who, actor, &format!("copy {from} {to} {len}"))?;
        self.changed(who, to, to + len, |file| {
            let copied = file[from..from + len].to_vec();
            if len > 0 {
                put(file, to, &copied);
            }
        });
        Ok(())
    }

    fn map(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let size = self.history.now().len();
        if size == 0 {
            return Ok(());
        }
        let at = self.dice.size(size - 1);
        let (len, seed) = (self.dice.size(size - at), self.dice.next() >> 1);
        if len == 0 {
            return Ok(());
        }
        self.told(who, actor, &format!("map {at} {len} {seed}"))?;
        self.changed(who, at, at + len, |file| put(file, at, &bytes(at, len, seed)));
        Ok(())
    }

    /// Opens, maps, reads all of it: the present version.
    fn look(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let len = self.history.now().len();
        let read = self.told(who, actor, &format!("look {len}"))?;
        let wrong = read.iter().zip(self.history.now()).position(|(read, right)| read != right);
        ensure!(wrong.is_none(), "look: wrong at {wrong:?}");
        Ok(())
    }

    fn size(&mut self, who: usize, actor: &mut Actor) -> Result<()> {
        let told = self.told(who, actor, "size")?;
        let size = u64::from_be_bytes(told.try_into().ok().context("eight bytes")?) as usize;
        let view = self.views[who][0].as_ref().context("it is open")?;
        ensure!(view.may_have_size(&self.history, size), "size {size}, is {}", self.history.now().len());
        Ok(())
    }

    /// The present version is new, by the doing of `who` in this range; all his opens know.
    fn changed(&mut self, who: usize, at: usize, end: usize, change: impl FnOnce(&mut Vec<u8>)) {
        self.history.change(change);
        for view in self.views[who].iter_mut().flatten() {
            view.changed(&self.history, at, end);
        }
    }
}
