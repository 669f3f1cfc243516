//! Rounds and tables.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::Result;
use bench_support::report::Table;

use crate::{
    contestants::{CEILING, Field, SSHFS, WIRE},
    work::Work,
};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// The installed io-pkt.
    pub program: PathBuf,
    /// Another installation, measured beside it.
    pub beside: Option<PathBuf>,
    /// MTU of every veth.
    pub mtu: u32,
    /// Options of our driver, each set of which is measured beside the default.
    pub drivers: Vec<String>,
    /// Rounds; in each, everything has its turn.
    pub rounds: usize,
    /// Length of random reads and of messages between the nodes.
    pub span: Duration,
    /// Bytes of the large file.
    pub size: u64,
    /// Kinds of work.
    pub work: Vec<Work>,
    /// Only lines whose name contains one of these; all when there are none.
    pub only: Vec<String>,
}

impl Effort {
    /// Whether a line is wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Most memory that is touched before a measurement, in bytes.
const TOUCHED: u64 = 4 << 30;

/// Touches memory and gives it back. What a virtual machine has not used for a while is the host's again, and whoever
/// touches it first waits for it: the first of a round would pay for all.
fn touch_memory(bytes: u64) {
    let bytes = usize::try_from(bytes.min(TOUCHED)).unwrap_or(usize::MAX);
    std::hint::black_box(vec![1_u8; bytes]);
}

/// A table for each kind of work. Who fails in one is left out of it from then on, and a line says so.
///
/// # Errors
/// Something that takes part does not start.
pub fn all(effort: &Effort) -> Result<Vec<Table>> {
    let (field, contestants) = Field::new(effort)?;
    let mut tables: Vec<_> = effort.work.iter().map(|work| (*work, table(*work, field.size()))).collect();
    let mut failed = BTreeSet::new();
    for _ in 0..effort.rounds {
        for (work, table) in &mut tables {
            for one in &contestants {
                if failed.contains(&(work.word(), one.name.as_str())) {
                    continue;
                }
                if work.is_bulk() {
                    touch_memory(2 * field.size());
                }
                match field.measure(one, effort, *work) {
                    Ok(Some(number)) => table.add(&one.name, number),
                    Ok(None) => {}
                    Err(error) => {
                        eprintln!("{}: {} is left out: {error:#}", table.title, one.name);
                        failed.insert((work.word(), one.name.as_str()));
                    }
                }
            }
        }
    }
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

fn table(work: Work, size: u64) -> Table {
    let (title, unit, digits) = work.about();
    let title = if work.is_bulk() { format!("{title}, {} MiB", size >> 20) } else { title.to_owned() };
    let yardsticks: &[&'static str] =
        if work.is_bulk() { &[SSHFS, CEILING, WIRE] } else { &[SSHFS, CEILING] };
    Table::new(title, unit, digits, yardsticks)
}
