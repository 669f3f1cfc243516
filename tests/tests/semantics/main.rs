//! What a file system promises, case by case, tried on a local one: that proves the cases.
//!
//! Called with `SEMANTICS=DIR` in its environment this program runs the cases below that directory and prints what they
//! find (`suite`); words on the command line choose among them. Otherwise it is the test, which has itself called so
//! inside of a node.

mod cases;
mod ops;
mod suite;
mod sys;

use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use qnet_lab::Node;
use system_tests::{Need, Pair};

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

const CASES: &[system_tests::Case] = &[system_tests::Case {
    name: "linux_does_what_the_cases_expect",
    needs: &[Need::RootNodes],
    run: linux_does_what_the_cases_expect,
}];

fn linux_does_what_the_cases_expect() -> Result<()> {
    let pair = Pair::bare()?;
    judge(&run(&pair.alonzo, "/tmp/semantics")?)
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

/// Fails unless every check came out as the cases expect.
fn judge(text: &str) -> Result<()> {
    let wrong: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("not	")).collect();
    let right = text.lines().filter(|line| line.starts_with("ok	")).count();
    ensure!(
        wrong.is_empty(),
        "{right} checks are right, {} are not:
{}",
        wrong.len(),
        wrong.join(
            "
"
        )
    );
    ensure!(right > 1000, "only {right} checks");
    Ok(())
}
