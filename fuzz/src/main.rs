//! The targets under libFuzzer. `QNET_FUZZ_TARGET` names the one to run; all else is libFuzzer's
//! command line. `cargo xtask fuzz` builds it with the instrumentation that it needs.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("QNET_FUZZ_TARGET").unwrap_or_default();
    match fuzz::target(&name) {
        Some(target) => target.run,
        None => {
            let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            eprintln!("QNET_FUZZ_TARGET={name} is none of: {}", names.join(" "));
            std::process::exit(2);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let run = RUN.get_or_init(chosen);
    run(data);
});
