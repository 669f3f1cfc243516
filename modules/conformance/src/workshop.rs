//! Builds modules with `cargo`, `rustc` and `cc`, the way their authors would.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{self, Command, Output},
};

use serde_json::Value;

/// Where this crate's sources lie.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// A module could not be built.
#[derive(Debug, thiserror::Error)]
pub enum WorkshopError {
    /// The program is missing or cannot be started.
    #[error("cannot run {program}: {reason}")]
    Run {
        /// The program.
        program: String,
        /// The system's reason.
        reason: io::Error,
    },
    /// The program said no.
    #[error("{program} failed:\n{output}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// What it wrote.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// Cargo did not build what was asked for.
    #[error("cargo built no {what}:\n{words}")]
    Missing {
        /// The file.
        what: String,
        /// What Cargo said.
        words: String,
    },
    /// The frozen sources are not what this program expects.
    #[error("{file}: expected once: {text}")]
    Edit {
        /// The file.
        file: PathBuf,
        /// What should be replaced.
        text: String,
    },
}

/// What Cargo has built.
#[derive(Clone, Debug)]
pub struct Workshop {
    /// Directory for everything that is built here.
    dir: PathBuf,
    /// Directory of the dependencies' libraries.
    deps: PathBuf,
    /// Every library that Cargo named, as `(crate name, file)`.
    libraries: Vec<(String, PathBuf)>,
    /// What Cargo said, for the case that something is missing.
    words: String,
}

impl Workshop {
    /// Has Cargo build the drivers and protocols of the workspace. Modules made here go to `dir`.
    ///
    /// A crate that does not compile is missed only when it is asked for.
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn new(dir: &Path) -> Result<Self, WorkshopError> {
        let (target, profile) = target_directory();
        let mut cargo = cargo();
        // The whole workspace, as the developer builds it: a part of it may resolve other features and build all anew.
        cargo.args(["build", "--workspace", "--keep-going", "--message-format=json", "--profile", &profile]);
        let output = output(cargo.arg("--target-dir").arg(&target))?;
        Ok(Self {
            dir: dir.to_owned(),
            deps: target.join(if profile == "dev" { "debug" } else { &profile }).join("deps"),
            libraries: libraries(&String::from_utf8_lossy(&output.stdout)),
            words: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Directory for everything that is built here.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every driver, protocol and resolver of the workspace: its shared object, copied under its installed name (`devn-tap.so`).
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn workspace_modules(&self) -> Result<Vec<PathBuf>, WorkshopError> {
        let is_module = |name: &str| ["devn_", "lsm_", "nr_"].iter().any(|kind| name.starts_with(kind));
        let built = self.libraries.iter().filter(|(name, file)| is_module(name) && is_shared(file));
        built
            .map(|(name, file)| {
                let installed = self.dir.join(name.replace('_', "-")).with_extension("so");
                self.place(&installed, |draft| {
                    let copied = fs::copy(file, draft);
                    copied.map(|_| ()).map_err(|reason| WorkshopError::File { file: file.clone(), reason })
                })
            })
            .collect()
    }

    /// Has Cargo build a program of the workspace (`io-pkt`); the modules lie beside it.
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn program(&self, package: &str) -> Result<PathBuf, WorkshopError> {
        let (target, profile) = target_directory();
        let mut cargo = cargo();
        cargo.args(["build", "--workspace", "--keep-going", "--message-format=json", "--profile", &profile]);
        let messages = run(cargo.arg("--target-dir").arg(&target))?;
        let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut programs =
            artifacts.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
        let found = programs.find(|program| program.file_name().is_some_and(|name| name == package));
        found.ok_or_else(|| WorkshopError::Missing { what: package.to_owned(), words: messages.clone() })
    }

    /// Builds a C module from a source file of `modules/conformance/c`, with definitions (`BUILD="2"`).
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn c_module(&self, source: &str, file: &str, definitions: &[&str]) -> Result<PathBuf, WorkshopError> {
        let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]);
        cc.arg("-I").arg(include_dir());
        cc.args(definitions.iter().map(|definition| format!("-D{definition}")));
        cc.arg(Path::new(HERE).join("c").join(source));
        self.place(&self.dir.join(file), |draft| run(cc.arg("-o").arg(draft)).map(|_| ()))
    }

    /// Builds a C program from `text`, which may include the module header.
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn c_program(&self, name: &str, text: &str) -> Result<PathBuf, WorkshopError> {
        let source = self.dir.join(name).with_extension("c");
        let output = self.dir.join(name);
        fs::write(&source, text).map_err(|reason| WorkshopError::File { file: source.clone(), reason })?;
        let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"]).arg(include_dir());
        cc.arg("-o").arg(&output).arg(&source);
        run(&mut cc)?;
        Ok(output)
    }

    /// The driver that misbehaves on demand (`rust/naughty.rs`), built on the present SDK.
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn naughty(&self) -> Result<PathBuf, WorkshopError> {
        let source = Path::new(HERE).join("rust/naughty.rs");
        let mut rustc = self.rustc("devn_naughty", "cdylib");
        for library in ["io_pkt_sdk", "tracing"] {
            rustc.arg("--extern").arg(self.external(library)?);
        }
        rustc.arg(&source);
        self.place(&self.dir.join("devn-naughty.so"), |draft| run(rustc.arg("-o").arg(draft)).map(|_| ()))
    }

    /// The driver of frozen ABI 1.0 (`frozen/`).
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn frozen_1_0(&self) -> Result<PathBuf, WorkshopError> {
        self.bare_module("devn-frozen.so", &Path::new(HERE).join("frozen/abi_1_0"), &[])
    }

    /// The same driver against a minor version that the host does not know yet: its table has one more field.
    ///
    /// # Errors
    /// [`WorkshopError`].
    pub fn later_minor(&self) -> Result<PathBuf, WorkshopError> {
        let abi = self.own("abi_later");
        copy_dir(&Path::new(HERE).join("frozen/abi_1_0"), &abi)?;
        edit(&abi.join("lib.rs"), "pub const ABI_MINOR: u16 = 0;", "pub const ABI_MINOR: u16 = 7;")?;
        let last =
            "    pub destroy: unsafe extern \"C\" fn(use_: *mut c_void),\n}\n\n/// What a protocol offers.";
        let more = "    pub destroy: unsafe extern \"C\" fn(use_: *mut c_void),\n    /// Unknown to the host.\n    \
                    pub later: unsafe extern \"C\" fn(use_: *mut c_void),\n}\n\n/// What a protocol offers.";
        edit(&abi.join("table.rs"), last, more)?;
        let made = self.bare_module("devn-later.so", &abi, &["--cfg", "later"]);
        fs::remove_dir_all(&abi).map_err(|reason| WorkshopError::File { file: abi, reason })?;
        made
    }

    /// `frozen/echo_1_0.rs` against the ABI sources in `abi`.
    fn bare_module(&self, file: &str, abi: &Path, flags: &[&str]) -> Result<PathBuf, WorkshopError> {
        let scratch = self.own(&format!("{file}.d"));
        fs::create_dir_all(&scratch)
            .map_err(|reason| WorkshopError::File { file: scratch.clone(), reason })?;
        let library = scratch.join("libio_pkt_abi.rlib");
        let mut rustc = self.rustc("io_pkt_abi", "rlib");
        rustc.arg("--extern").arg(self.external("abi_stable")?);
        run(rustc.arg(abi.join("lib.rs")).arg("-o").arg(&library))?;
        let mut rustc = self.rustc("devn_bare", "cdylib");
        rustc.arg("--extern").arg(self.external("abi_stable")?);
        rustc.arg("--extern").arg(format!("io_pkt_abi={}", library.display())).args(flags);
        rustc.arg(Path::new(HERE).join("frozen/echo_1_0.rs"));
        let placed = self.place(&self.dir.join(file), |draft| run(rustc.arg("-o").arg(draft)).map(|_| ()));
        fs::remove_dir_all(&scratch).map_err(|reason| WorkshopError::File { file: scratch, reason })?;
        placed
    }

    /// A path below the directory that no other process uses.
    fn own(&self, name: &str) -> PathBuf {
        self.dir.join(format!(".{}-{name}", process::id()))
    }

    /// Makes a file beside its place and then puts it there in one step: test runners start a process for each test, and
    /// none must find the other's file half written.
    fn place(
        &self,
        file: &Path,
        make: impl FnOnce(&Path) -> Result<(), WorkshopError>,
    ) -> Result<PathBuf, WorkshopError> {
        let draft = self.own(&file.file_name().unwrap_or_default().to_string_lossy());
        make(&draft)?;
        fs::rename(&draft, file).map_err(|reason| WorkshopError::File { file: file.to_owned(), reason })?;
        Ok(file.to_owned())
    }

    fn rustc(&self, name: &str, kind: &str) -> Command {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition=2024", "--cap-lints=allow", "--crate-name", name, "--crate-type", kind]);
        rustc.arg("-L").arg(format!("dependency={}", self.deps.display()));
        // abi_stable compares the package that a type comes from.
        rustc.env("CARGO_PKG_NAME", "io-pkt-abi").env("CARGO_PKG_VERSION", "1.0.0");
        rustc
    }

    /// `name=file` for `--extern`.
    fn external(&self, name: &str) -> Result<String, WorkshopError> {
        let is_rlib = |file: &Path| file.extension().is_some_and(|ending| ending == "rlib");
        let found = self.libraries.iter().find(|(library, file)| library == name && is_rlib(file));
        match found {
            Some((_, file)) => Ok(format!("{name}={}", file.display())),
            None => {
                Err(WorkshopError::Missing { what: format!("lib{name}.rlib"), words: self.words.clone() })
            }
        }
    }
}

/// Where `io_pkt_module.h` lies.
#[must_use]
pub fn include_dir() -> PathBuf {
    Path::new(HERE).join("../include")
}

/// Target directory and profile of the running test.
fn target_directory() -> (PathBuf, String) {
    let executable = env::current_exe().unwrap_or_default();
    // <target>/<profile>/deps/<test>
    let profile = executable.ancestors().nth(2).unwrap_or(Path::new("target/debug"));
    let target = profile.parent().unwrap_or(Path::new("target")).to_owned();
    let name = profile.file_name().map_or("debug".into(), |name| name.to_string_lossy());
    (target, if name == "debug" { "dev".to_owned() } else { name.into_owned() })
}

/// Crate names and files from Cargo's messages.
fn libraries(messages: &str) -> Vec<(String, PathBuf)> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    artifacts
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| {
            let name = message["target"]["name"].as_str().unwrap_or_default().replace('-', "_");
            let files = message["filenames"].as_array().cloned().unwrap_or_default();
            files.into_iter().filter_map(move |file| Some((name.clone(), PathBuf::from(file.as_str()?))))
        })
        .collect()
}

fn is_shared(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "so")
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(HERE);
    cargo
}

fn output(command: &mut Command) -> Result<Output, WorkshopError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|reason| WorkshopError::Run { program, reason })
}

fn run(command: &mut Command) -> Result<String, WorkshopError> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(WorkshopError::Failed {
        program: format!("{command:?}"),
        output: String::from_utf8_lossy(&text).into_owned(),
    })
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), WorkshopError> {
    let fail = |reason| WorkshopError::File { file: from.to_owned(), reason };
    fs::create_dir_all(to).map_err(fail)?;
    for entry in fs::read_dir(from).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        fs::copy(entry.path(), to.join(entry.file_name())).map_err(fail)?;
    }
    Ok(())
}

/// Replaces the only occurrence of `old`.
fn edit(file: &Path, old: &str, new: &str) -> Result<(), WorkshopError> {
    let fail = |reason| WorkshopError::File { file: file.to_owned(), reason };
    let text = fs::read_to_string(file).map_err(fail)?;
    if text.matches(old).count() != 1 {
        return Err(WorkshopError::Edit { file: file.to_owned(), text: old.to_owned() });
    }
    fs::write(file, text.replace(old, new)).map_err(fail)
}
