//! The test harness: the standard one's command line, and tests that are ignored for a reason.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use qnet_lab::{Abilities, Isolation, LabError};

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Nodes with namespaces of their own, whoever makes them.
    Nodes,
    /// Nodes made by root, which can become any user.
    RootNodes,
    /// `/dev/fuse`.
    Fuse,
    /// `/dev/net/tun`.
    Tap,
    /// A program in `PATH`.
    Program(&'static str),
}

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The behaviour that it proves.
    pub name: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
    /// The test itself; it fails by an error or a panic.
    pub run: fn() -> Result<()>,
}

/// The `main` of a test file: `cases! { name_of_function: [Need::Nodes], ... }`.
#[macro_export]
macro_rules! cases {
    ($($run:ident: [$($need:expr),* $(,)?]),* $(,)?) => {
        fn main() -> std::process::ExitCode {
            $crate::main(&[$($crate::Case { name: stringify!($run), needs: &[$($need),*], run: $run }),*])
        }
    };
}

/// Runs the cases that the command line asks for, as the standard harness would.
#[must_use]
pub fn main(cases: &[Case]) -> ExitCode {
    let args = Arguments::from_args();
    let abilities = Abilities::probe();
    let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1");
    let trials = cases.iter().map(|case| trial(case, missing(case.needs, &abilities), in_ci)).collect();
    libtest_mimic::run(&args, trials).exit_code()
}

fn trial(case: &Case, missing: Option<String>, in_ci: bool) -> Trial {
    let Case { name, run, .. } = *case;
    match missing {
        None => Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}")))),
        Some(why) if in_ci => {
            Trial::test(name, move || Err(format!("cannot run here, and CI=true asks for it: {why}").into()))
        }
        Some(why) => {
            eprintln!("{name}: ignored: {why}");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

/// Why these needs are not met, in one sentence.
fn missing(needs: &[Need], abilities: &Result<Abilities, LabError>) -> Option<String> {
    let abilities = match abilities {
        Ok(abilities) => abilities,
        Err(error) => return Some(error.to_string()),
    };
    needs.iter().find_map(|need| {
        let lack = match need {
            Need::Nodes | Need::RootNodes => abilities.no_namespaces.as_ref(),
            Need::Fuse => abilities.no_fuse.as_ref(),
            Need::Tap => abilities.no_tap.as_ref(),
            Need::Program(program) => {
                return (!in_path(program)).then(|| format!("{program} is not installed"));
            }
        };
        let lack = lack.map(ToString::to_string);
        let no_root = matches!(need, Need::RootNodes) && abilities.isolation != Isolation::Namespaces;
        lack.or_else(|| no_root.then(|| "needs root".to_owned()))
    })
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
