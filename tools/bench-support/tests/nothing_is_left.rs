//! A benchmark that is killed leaves no namespace, no process and no file.
//!
//! This program is the test, the benchmark that is killed (`victim`), and that one's keepers and parts.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use bench_support::{
    part::Part,
    space::{self, Space},
    stage::{self, Stage},
};
use clap::{Parser, Subcommand};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use system_tests::{Case, Need, eventually};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    stage: Stage,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Subcommand)]
enum Role {
    Exec {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some("victim") => victim(),
        Some("--keep" | "--parent") => part(),
        _ => return tests(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tests() -> ExitCode {
    const NEEDS: &[Need] = &[Need::RootNodes, Need::Program("nsenter"), Need::Program("ip")];
    let case = |name, run| Case { name, needs: NEEDS, run };
    system_tests::main(&[
        case("nothing_is_left_after_sigterm", || killed_with(Signal::SIGTERM)),
        case("nothing_is_left_after_sigkill", || killed_with(Signal::SIGKILL)),
        case("nothing_is_left_at_the_end", nothing_is_left_at_the_end),
    ])
}

fn part() -> Result<()> {
    let cli = Cli::parse();
    let act = |Role::Exec { command }| stage::exec(&command);
    ensure!(cli.stage.play(cli.role, act)?, "this is no part");
    Ok(())
}

/// What a benchmark in full swing has: prints its directory and its processes, and waits for its end.
fn victim() -> Result<()> {
    let (near, far) = (Space::new("nothing-is-left")?, Space::new("nothing-is-left")?);
    space::wire((&near, "x0"), (&far, "x1"), 1500)?;
    ensure!(space::mac(&far, "x1")?.len() == 17, "the far end has an address");
    let mut part = near.play(None, &["exec", "sh", "-c", "echo plays; exec sleep 1000"])?;
    ensure!(part.line()? == "plays", "{}", near.log());
    let directory = near.directory()?;
    std::fs::write(directory.path().join("file"), "content")?;
    let keepers = [&near, &far].map(|space| space.path().display().to_string());
    println!("{}", directory.path().display());
    println!("{} {} /proc/{}/ns/net", keepers[0], keepers[1], part.pid());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// A victim, and what will have to be gone after it.
fn started() -> Result<(Part, PathBuf, Vec<PathBuf>)> {
    let mut victim = Part::start(Command::new(std::env::current_exe()?).arg("victim"))?;
    let directory = PathBuf::from(victim.line()?);
    let processes: Vec<PathBuf> = victim.line()?.split(' ').map(PathBuf::from).collect();
    ensure!(directory.join("file").exists() && processes.iter().all(|process| process.exists()), "it lives");
    let top = directory.parent().context("the namespace's directory")?.to_owned();
    Ok((victim, top, processes))
}

fn gone(directory: &std::path::Path, processes: &[PathBuf]) -> Result<()> {
    eventually("nothing is left", || {
        // A process that has ended has no namespaces, even when nobody has waited for it.
        !directory.exists() && processes.iter().all(|process| std::fs::read_link(process).is_err())
    })
}

fn killed_with(signal: Signal) -> Result<()> {
    let (victim, directory, processes) = started()?;
    kill(Pid::from_raw(victim.pid()), signal)?;
    gone(&directory, &processes)
}

fn nothing_is_left_at_the_end() -> Result<()> {
    let (mut victim, directory, processes) = started()?;
    victim.close();
    ensure!(victim.ended_well()?, "the victim ends well");
    gone(&directory, &processes)
}
