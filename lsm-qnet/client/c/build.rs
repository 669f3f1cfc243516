//! Gives the library its soname, and the target folder the links under which programs find it, so that they run straight
//! from there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::{env, fs, io};

/// Changes when a program that was linked before would no longer run.
const SONAME: &str = "libqnet.so.1";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
    // target/debug/build/qnet-c-HASH/out: cargo puts the library three folders up.
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    let Some(profile) = Path::new(&out).ancestors().nth(3) else { return Ok(()) };
    for name in ["libqnet.so", SONAME] {
        let link = profile.join(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink("libqnet_c.so", link)?,
        }
    }
    Ok(())
}
