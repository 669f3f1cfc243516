//! Tells the tests whether tshark is there: without it its tests are compiled as ignored, with the
//! reason; with `CI=true` they run and fail.
//!
//! A test cannot find that out in time: it is ignored when it is compiled or not at all.

use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(no_tshark)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CI");
    println!("cargo::rerun-if-env-changed=PATH");
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let there = Command::new("tshark").arg("--version").output().is_ok_and(|out| out.status.success());
    if !there && !ci {
        println!("cargo::rustc-cfg=no_tshark");
    }
}
