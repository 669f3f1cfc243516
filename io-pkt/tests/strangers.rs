//! What somebody else on the machine may do: look, and not touch.
//!
//! Only root can become somebody else, so without root this is reported as ignored, with the reason; where `CI=true` it is
//! a failure then.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

#[path = "daemon/support.rs"]
#[expect(dead_code, reason = "shared with the other tests of the daemon, which use all of it")]
mod support;

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, ExitCode, Stdio},
};

use libtest_mimic::{Arguments, Trial};

use support::Place;

/// `nobody`, on Debian.
const STRANGER: u32 = 65534;

/// Sends one line and prints the first line of the answer.
const ASK: &str = "\
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b'\\n')
print(s.makefile().readline())";

fn main() -> ExitCode {
    let name = "strangers_may_look_and_not_touch";
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let trial = if nix::unistd::Uid::effective().is_root() {
        Trial::test(name, || {
            strangers_may_look_and_not_touch();
            Ok(())
        })
    } else if in_ci {
        Trial::test(name, || Err("only root can become somebody else, and CI=true asks for it".into()))
    } else {
        eprintln!("{name}: ignored: only root can become somebody else");
        Trial::test(name, || Ok(())).with_ignored_flag(true)
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn strangers_may_look_and_not_touch() {
    let place = Place::new();
    let daemon = place.start(&["-dtemplate"]);
    // Everybody may enter the directories of this test.
    for dir in [place.path(""), place.root().dir().to_owned()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let ask = |request: &str| {
        let mut python = Command::new("python3");
        python.args(["-c", ASK]).arg(place.root().control_socket(0)).arg(request);
        let output = python.uid(STRANGER).gid(STRANGER).stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for allowed in ["ping", "interfaces", "modules", "counters", "log-level"] {
        let answer = ask(&format!("{{\"v\":1,\"id\":1,\"cmd\":\"{allowed}\"}}"));
        assert!(answer.contains("\"ok\""), "{allowed}: {answer}");
    }
    for denied in [
        "{\"v\":1,\"id\":1,\"cmd\":\"umount\",\"name\":\"en0\"}",
        "{\"v\":1,\"id\":1,\"cmd\":\"mount\",\"module\":\"template\"}",
        "{\"v\":1,\"id\":1,\"cmd\":\"log-level\",\"level\":\"off\"}",
    ] {
        let answer = ask(denied);
        assert!(answer.contains("\"EPERM\""), "{denied}: {answer}");
    }
    assert_eq!(daemon.client().interfaces(None).unwrap().len(), 1);
    daemon.stop();
}
