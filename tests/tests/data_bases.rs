//! sqlite's shared journal (WAL) where it cannot work: its programs share memory by mapping a file, which only those of one node
//! can do. Whoever comes second is refused, by an error and before he has read anything wrong; the first is not disturbed.
//!
//! The data base is joseph's. alonzo has it by `/net`; joseph has it by `/net` too, or where it lies.

use anyhow::{Context, Result, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, Player, eventually};

const NEEDS: &[Need] = &[Need::RootNodes, Need::Fuse, Need::Program("sqlite3")];

const CASES: &[system_tests::Case] = &[
    case("a_shared_journal_is_refused_to_the_second_node", two_nodes),
    case("a_shared_journal_is_refused_where_a_local_program_has_it", local_first),
    case("a_shared_journal_is_refused_to_who_only_reads_elsewhere", readers),
    case("a_node_that_was_refused_may_when_the_first_has_gone", afterwards),
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> system_tests::Case {
    system_tests::Case { name, needs: NEEDS, run }
}

fn main() -> std::process::ExitCode {
    system_tests::main(CASES)
}

/// Where the data base is by `/net`, and where it lies.
const FAR: &str = "/net/joseph/tmp/work/base.db";
const NEAR: &str = "/tmp/work/base.db";

/// Two nodes, with a data base of one table that has one row.
fn pair() -> Result<Pair> {
    let pair = Pair::up(&Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })?;
    pair.joseph.shell(&format!(
        "mkdir /tmp/work && sqlite3 {NEAR} 'pragma journal_mode=wal; create table t(n integer); insert into t values(1)'"
    ))?;
    Ok(pair)
}

/// A sqlite that stays, and does what it is told.
struct Sqlite {
    player: Player,
}

/// What it says when it has done something.
const DONE: &str = "-- done";

impl Sqlite {
    fn start(node: &Node, base: &str) -> Result<Self> {
        let mut command = node.command("sh");
        command.args(["-c", &format!("exec sqlite3 -batch '{base}' 2>&1")]);
        Ok(Self { player: Player::start(command)? })
    }

    /// One that has the data base for its node, as soon as those who had it before are known to have gone: the kernel tells of
    /// the last close when it has the time.
    fn first(node: &Node, base: &str) -> Result<Self> {
        let mut first = None;
        eventually("the data base for a node", || {
            let mut next = Self::start(node, base).ok();
            let said = next.as_mut().and_then(|next| next.ask("select count(*) from t").ok());
            first = next.filter(|_| said.is_some_and(|said| said.trim_end().parse::<u32>().is_ok()));
            first.is_some()
        })?;
        first.context("there is one then")
    }

    /// What it says to a statement.
    fn ask(&mut self, statement: &str) -> Result<String> {
        self.player.order(&format!("{statement};\n.print {DONE}"))?;
        let mut said = String::new();
        loop {
            let line = self.player.hear().with_context(|| format!("it said {said:?}"))?;
            if line == DONE {
                return Ok(said);
            }
            said += &line;
            said.push('\n');
        }
    }

    fn says(&mut self, statement: &str, expected: &str) -> Result<()> {
        let said = self.ask(statement)?;
        ensure!(said == expected, "{statement}: {said:?}, expected {expected:?}");
        Ok(())
    }

    /// It is told an error, and nothing of the table.
    fn is_refused(&mut self) -> Result<()> {
        for statement in ["select count(*) from t", "insert into t values(99)", "select sum(n) from t"] {
            let said = self.ask(statement)?;
            ensure!(said.contains("disk I/O error"), "{statement}: {said:?} instead of an error");
        }
        Ok(())
    }

    /// Ends it, and waits until it has.
    fn end(mut self) -> Result<()> {
        self.player.order(".quit")?;
        ensure!(self.player.process().wait()?.success(), "sqlite fails at its end");
        Ok(())
    }
}

/// The first counts on and sees what it wrote, whatever the second tries meanwhile.
fn first_and_second(first: (&Node, &str), second: (&Node, &str)) -> Result<()> {
    let mut one = Sqlite::first(first.0, first.1)?;
    one.says("select sum(n) from t", "1\n")?;
    let mut other = Sqlite::start(second.0, second.1)?;
    for step in 2..6 {
        one.says(&format!("insert into t values({step})"), "")?;
        other.is_refused()?;
    }
    one.says("pragma integrity_check; select sum(n) from t", "ok\n15\n")?;
    // A program more of the first one's node is as good as it.
    let mut third = Sqlite::start(first.0, first.1)?;
    third.says("insert into t values(6); select sum(n) from t", "21\n")?;
    one.says("select sum(n) from t", "21\n")?;
    third.end()?;
    one.says("delete from t where n > 1", "")?;
    one.end()
}

fn two_nodes() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    first_and_second((alonzo, FAR), (joseph, FAR))?;
    first_and_second((joseph, FAR), (alonzo, FAR))
}

fn local_first() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    first_and_second((joseph, NEAR), (alonzo, FAR))?;
    first_and_second((joseph, NEAR), (joseph, FAR))
}

/// Who asks for a journal that he only reads would map it all the same.
fn readers() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    let base = format!("file:{FAR}?mode=ro&readonly_shm=1");
    for writer in [NEAR, FAR] {
        let mut writer = Sqlite::first(joseph, writer)?;
        writer.says("insert into t values(2); select count(*) from t", "2\n")?;
        let mut reader = Sqlite::start(alonzo, &base)?;
        let said = reader.ask("select count(*) from t")?;
        ensure!(said.contains("error") || said.contains("unable"), "a reader is told {said:?}");
        writer.says("delete from t where n > 1", "")?;
        writer.end()?;
    }
    Ok(())
}

fn afterwards() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    let mut first = Sqlite::first(alonzo, FAR)?;
    first.says("insert into t values(2); select sum(n) from t", "3\n")?;
    let mut second = Sqlite::start(joseph, FAR)?;
    second.is_refused()?;
    first.end()?;
    let mut turn = Sqlite::first(joseph, FAR)?;
    turn.says("select sum(n) from t", "3\n")?;
    turn.says("insert into t values(3); select sum(n) from t", "6\n")?;
    // What was opened beside the first one stays as it was opened.
    second.is_refused()?;
    let mut late = Sqlite::start(alonzo, FAR)?;
    late.is_refused()?;
    turn.says("pragma integrity_check; select sum(n) from t", "ok\n6\n")
}
