//! Where module files lie and which names stand for them.
//!
//! Order of directories: `../lib/io-pkt` beside the executable (an installation), the executable's own directory and the
//! one above it (a Cargo `target/` directory, where `devn-tap` is `libdevn_tap.so`), then those of
//! `IO_PKT_MODULE_PATH`, which is ignored when the program runs with more rights than its caller (AT_SECURE).

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    Kind,
    error::{LoadError, Refusal},
};

/// Environment variable with more directories, separated by `:`.
pub const PATH_VARIABLE: &str = "IO_PKT_MODULE_PATH";

/// Directories to look through, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchPath {
    dirs: Vec<PathBuf>,
}

impl SearchPath {
    /// The directories of this process, as the module documentation lists them.
    #[must_use]
    pub fn from_env() -> Self {
        let executable = env::current_exe().ok();
        let dir = executable.as_deref().and_then(Path::parent);
        let extra = if is_secure() { None } else { env::var_os(PATH_VARIABLE) };
        Self::new(dir, extra.as_deref().map(env::split_paths).into_iter().flatten())
    }

    /// The directories that belong to an executable in `dir`, then `extra` ones. Relative extra ones are skipped: what
    /// they name would depend on where the daemon was started.
    #[must_use]
    pub fn new(dir: Option<&Path>, extra: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut dirs = Vec::new();
        if let Some(dir) = dir {
            let above = dir.parent().unwrap_or(dir);
            dirs.extend([above.join("lib/io-pkt"), dir.to_owned(), above.to_owned()]);
        }
        dirs.extend(extra.into_iter().filter(|dir| dir.is_absolute()));
        Self { dirs }
    }

    /// The directories in order.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The file that `name` stands for: a path is taken as it is, anything else is looked up.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] with everything that was tried.
    pub fn resolve(&self, kind: Kind, name: &str) -> Result<PathBuf, LoadError> {
        if name.contains('/') {
            return Ok(PathBuf::from(name));
        }
        let mut tried = Vec::new();
        for dir in &self.dirs {
            for file in file_names(kind, name) {
                for path in [dir.join(&file), dir.join(cargo_name(&file))] {
                    if path.exists() {
                        return Ok(path);
                    }
                    tried.push(path);
                }
            }
        }
        // The variant in Cargo's spelling is of no interest to a reader of the message.
        tried
            .retain(|path| path.file_name().is_some_and(|file| !file.as_encoded_bytes().starts_with(b"lib")));
        Err(LoadError { file: PathBuf::from(name), refusal: Refusal::NotFound { tried } })
    }

    /// The helper program `name` beside the modules or beside the executable. `None` when there is none, or when `name`
    /// is not a plain file name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
    }
}

/// Module files that `name` may stand for, the likeliest first.
///
/// A driver `packet` is `devnp-packet.so`, then `devn-packet.so`. A protocol `qnet` may be called `qnet`, `lsm-qnet`,
/// `npm-qnet` (its name before 6.4) and each with `.so`. Full names stand for themselves.
#[must_use]
pub fn file_names(kind: Kind, name: &str) -> Vec<String> {
    let base = name.strip_suffix(".so").unwrap_or(name);
    match kind {
        Kind::Driver if base.starts_with("devn-") || base.starts_with("devnp-") => vec![format!("{base}.so")],
        Kind::Driver => vec![format!("devnp-{base}.so"), format!("devn-{base}.so")],
        Kind::Resolver => vec![format!("nr-{}.so", base.strip_prefix("nr-").unwrap_or(base))],
        Kind::Protocol => {
            let bare = base.strip_prefix("lsm-").or_else(|| base.strip_prefix("npm-")).unwrap_or(base);
            vec![format!("lsm-{bare}.so")]
        }
    }
}

/// `devn-tap.so` as Cargo names it: `libdevn_tap.so`.
fn cargo_name(file: &str) -> String {
    format!("lib{}", file.replace('-', "_"))
}

/// Whether the program has rights that its caller lacks.
fn is_secure() -> bool {
    // SAFETY: reads a value that the kernel handed to the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_name_tries_devnp_before_devn() {
        assert_eq!(file_names(Kind::Driver, "packet"), ["devnp-packet.so", "devn-packet.so"]);
        assert_eq!(file_names(Kind::Driver, "devn-packet"), ["devn-packet.so"]);
        assert_eq!(file_names(Kind::Driver, "devnp-e1000.so"), ["devnp-e1000.so"]);
    }

    #[test]
    fn all_names_of_a_protocol_mean_one_file() {
        for name in ["qnet", "lsm-qnet", "npm-qnet", "lsm-qnet.so", "npm-qnet.so"] {
            assert_eq!(file_names(Kind::Protocol, name), ["lsm-qnet.so"]);
        }
    }

    #[test]
    fn an_installation_comes_before_the_variable() {
        let path = SearchPath::new(
            Some(Path::new("/opt/x/bin")),
            [PathBuf::from("/extra"), PathBuf::from("relative"), PathBuf::new()],
        );
        assert_eq!(
            path.dirs(),
            [
                Path::new("/opt/x/lib/io-pkt"),
                Path::new("/opt/x/bin"),
                Path::new("/opt/x"),
                Path::new("/extra")
            ]
        );
    }

    #[test]
    fn a_missing_module_names_every_place() {
        let path = SearchPath::new(None, [PathBuf::from("/nowhere")]);
        let error = path.resolve(Kind::Driver, "el900").unwrap_err();
        assert_eq!(
            error.to_string(),
            "el900: no such module; looked for /nowhere/devnp-el900.so, /nowhere/devn-el900.so"
        );
        assert_eq!(error.errno(), libc::ENOENT);
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        let path = SearchPath::default();
        assert_eq!(path.resolve(Kind::Driver, "./x.so").unwrap(), Path::new("./x.so"));
    }
}
