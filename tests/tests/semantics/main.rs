//! What a file system promises, case by case: first of a local one, which proves the cases, then of `/net`.
//!
//! Called with `SEMANTICS=DIR` in its environment this program runs the cases below that directory and prints what they
//! find (`suite`); words on the command line choose among them. Otherwise it is the test, which has itself called so
//! inside of a node. Where `/net` differs on purpose is said in `differences`, each with its reason.

mod cases;
mod differences;
mod ops;
mod suite;

use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair};

use crate::differences::{DIFFERENCES, Difference};

fn main() -> ExitCode {
    let Some(below) = std::env::var_os("SEMANTICS") else {
        return system_tests::main(CASES);
    };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut chosen = cases::all();
    chosen.retain(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word.as_str())));
    match suite::run(Path::new(&below), &chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

const CASES: &[system_tests::Case] = &[
    system_tests::Case {
        name: "linux_does_what_the_cases_expect",
        needs: &[Need::RootNodes],
        run: linux_does_what_the_cases_expect,
    },
    system_tests::Case {
        name: "net_does_what_linux_does",
        needs: &[Need::RootNodes, Need::Fuse],
        run: net_does_what_linux_does,
    },
];

fn linux_does_what_the_cases_expect() -> Result<()> {
    let pair = Pair::bare()?;
    judge(&run(&pair.alonzo, "/tmp/semantics")?, &[])
}

fn net_does_what_linux_does() -> Result<()> {
    let pair = Pair::up(&Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })?;
    judge(&run(&pair.alonzo, "/net/joseph/tmp/semantics")?, DIFFERENCES)
}

/// Runs the cases in a node, below `path`; gives what they print.
fn run(node: &Node, path: &str) -> Result<String> {
    let us = std::env::current_exe()?;
    let name = us.file_name().and_then(|name| name.to_str()).context("a name")?;
    let mut command = node.command("env");
    command.args([format!("SEMANTICS={path}"), format!("/lab/programs/deps/{name}")]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && text.ends_with("end\n"), "{}: it ended early: {text}", node.name());
    Ok(text)
}

/// Fails unless exactly the `known` checks came out differently.
fn judge(text: &str, known: &[Difference]) -> Result<()> {
    let mut used = vec![false; known.len()];
    let mut faults = Vec::new();
    let mut right = 0;
    for line in text.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["ok", _] => right += 1,
            ["not", what, expected, seen] => {
                let found =
                    known.iter().position(|(check, as_seen, _)| matches(check, what) && *as_seen == seen);
                match found {
                    Some(at) => used[at] = true,
                    None => faults.push(format!("{what}: expected {expected}, got {seen}")),
                }
            }
            _ => {}
        }
    }
    let stale = known.iter().zip(used).filter(|(_, used)| !used);
    faults
        .extend(stale.map(|((check, seen, _), _)| format!("{check}: is said to give {seen}, and does not")));
    ensure!(faults.is_empty(), "{right} checks are right, {} are not:\n{}", faults.len(), faults.join("\n"));
    ensure!(right > 1000, "only {right} checks");
    Ok(())
}

fn matches(pattern: &str, what: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => what.starts_with(start),
        None => pattern == what,
    }
}
