//! Building and running C programs against the headers and the library of this build, the way a user does.

#![allow(dead_code, reason = "each test file uses its part of these helpers")]

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{self, Command, Output, Stdio},
    thread,
};

/// The include root with QNX's names.
pub(crate) fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/qnet").canonicalize().expect("the include root")
}

/// A folder with the library as it is installed. (`cargo test` leaves the file beside the tests, under its own name only.)
pub(crate) fn library() -> PathBuf {
    let test = env::current_exe().expect("this program's path");
    let built = test.with_file_name("libqnet_c.so");
    assert!(built.exists(), "cargo did not build {}", built.display());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libqnet");
    fs::create_dir_all(&folder).expect("a folder");
    for name in ["libqnet.so", "libqnet.so.1"] {
        // Other tests do the same at the same time.
        let fresh = folder.join(format!("{name}.{}.{:?}", process::id(), thread::current().id()));
        symlink(&built, &fresh).expect("a link");
        fs::rename(&fresh, folder.join(name)).expect("a link");
    }
    folder
}

/// Where the C programs of the tests are.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c")
}

/// Headers below `folder`, as they are named in an #include.
pub(crate) fn headers(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below").display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// A compiler, if this machine has it. The C compiler must be there, and with `CI=true` the C++ compiler, too.
pub(crate) fn compiler(name: &str) -> Option<&str> {
    let there =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let needed = name == "cc" || env::var_os("CI").is_some_and(|ci| ci == "true") && name == "c++";
    assert!(there || !needed, "{name} is not installed");
    there.then_some(name)
}

/// Arguments that pkg-config gives a user.
pub(crate) fn flags() -> Vec<String> {
    let (include, library) = (include(), library());
    vec![
        format!("-I{}", include.join("overlay").display()),
        format!("-I{}", include.display()),
        format!("-L{}", library.display()),
        format!("-Wl,-rpath,{}", library.display()),
    ]
}

/// Builds a program of `tests/c` into `folder`.
pub(crate) fn build(folder: &Path, source: &str) -> PathBuf {
    let program = folder.join(source.trim_end_matches(".c"));
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]).args(flags());
    cc.arg("-o").arg(&program).arg(sources().join(source)).arg("-lqnet");
    succeed(&mut cc);
    program
}

/// A program with a node's root of its own.
pub(crate) fn command(program: &Path, root: &Path) -> Command {
    let mut command = Command::new("timeout");
    // cargo's LD_LIBRARY_PATH leads to whatever library was built last; the program knows its own.
    command.arg("60").arg(program).env("IO_PKT_ROOT", root).env_remove("LD_LIBRARY_PATH");
    command
}

/// Runs a program to its end, which must be a good one; gives what it printed.
pub(crate) fn transcript<A: AsRef<OsStr>>(program: &Path, root: &Path, arguments: &[A]) -> String {
    succeed(command(program, root).args(arguments))
}

/// Runs a command to its good end; gives what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both streams, for a message.
pub(crate) fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
