//! `io-pkt`: arguments in, exit status out. Everything else is in the library.
//!
//! Exit status: 0 after an orderly end, 1 when the start failed (or `--check` found something missing), 2 for a wrong
//! command line.

use std::process::ExitCode;

use io_pkt::{check, cli, logging, process::Launch, start};

fn main() -> ExitCode {
    let args = match cli::parse(std::env::args_os()) {
        Ok(args) => args,
        // Prints help and version to stdout with status 0, errors to stderr with status 2.
        Err(error) => error.exit(),
    };
    if args.check {
        return check::run(args.root.as_deref());
    }
    let mut launch = match if args.background { Launch::background() } else { Ok(Launch::foreground()) } {
        Ok(launch) => launch,
        Err(error) => {
            logging::say(format_args!("going to the background: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if let Err(sentence) = logging::start(args.verbose) {
        logging::say(sentence);
        return ExitCode::from(2);
    }
    match start::run(args, &mut launch) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            logging::say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
