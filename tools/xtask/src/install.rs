//! `cargo xtask install --prefix DIR`: a release build laid out as a user expects it.
//!
//! ```text
//! DIR/bin           programs; QNX's names for them are links
//! DIR/sbin          mount.io-pkt, which mount(8) looks for
//! DIR/lib/io-pkt    modules under their shipped names (devn-tap.so) and the helper programs
//! DIR/lib           libqnet.so and pkgconfig
//! DIR/include       headers for module authors; in its folder qnet those for users of libqnet
//! DIR/share         man pages and documents
//! ```
//!
//! What there is to install is read from the workspace, so a new driver or tool needs no line here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::man;
use crate::run::{cargo, run};
use crate::workspace::{Package, Workspace, root};

/// QNX's name, and our program behind it.
const QNX_NAMES: &[(&str, &str)] = &[
    ("mount", "qnx-mount"),
    ("umount", "qnx-umount"),
    ("on", "qnx-on"),
    ("slay", "qnx-slay"),
    ("io-pkt-v4", "io-pkt"),
    ("io-pkt-v4-hc", "io-pkt"),
    ("io-pkt-v6-hc", "io-pkt"),
    ("io-net", "io-pkt"),
];

/// Programs that io-pkt starts itself; they live beside the modules.
const HELPERS: [&str; 2] = ["qnet-server", "qnet-netfs"];

/// Programs and modules for developers only.
const NOT_INSTALLED: [&str; 3] = ["xtask", "devn-template", "fuzz"];

/// The C library: its package, the file that programs are linked with and the name that they ask for.
const C_LIBRARY: (&str, &str, &str) = ("qnet-c", "libqnet.so", "libqnet.so.1");

/// Module files are `devn-x.so` and `lsm-x.so`; the C library is the only other shared object.
const MODULE_PREFIXES: [&str; 3] = ["devn-", "lsm-", "nr-"];

/// Builds for release and installs below `prefix`.
pub(crate) fn install(prefix: &Path) -> Result<()> {
    let workspace = Workspace::load()?;
    let packages: Vec<&Package> = workspace.packages.iter().filter(|package| is_installed(package)).collect();
    let names = packages.iter().flat_map(|package| ["--package", package.name.as_str()]);
    run(cargo().args(["build", "--release"]).args(names))?;
    let layout = Layout { built: workspace.target_directory.join("release"), prefix: prefix.to_owned() };
    layout.everything(&workspace)?;
    eprintln!("installed below {}", prefix.display());
    if !["/", "/usr"].iter().any(|system| prefix == Path::new(system)) {
        let helper = prefix.join("sbin/mount.io-pkt");
        eprintln!("for `mount -t io-pkt` of the system: ln -s {} /sbin/mount.io-pkt", helper.display());
    }
    Ok(())
}

/// From where to where.
struct Layout {
    built: PathBuf,
    prefix: PathBuf,
}

impl Layout {
    /// All that the workspace has to install and that is built.
    fn everything(&self, workspace: &Workspace) -> Result<()> {
        let mut programs = Vec::new();
        for package in workspace.packages.iter().filter(|package| is_installed(package)) {
            for program in package.targets_of("bin") {
                self.program(program)?;
                if !HELPERS.contains(&program) {
                    programs.push(program.to_owned());
                }
            }
            if package.targets_of("cdylib").next().is_some() {
                self.library(package)?;
            }
        }
        self.links(&programs)?;
        self.headers(workspace)?;
        self.share(&programs)
    }

    fn program(&self, name: &str) -> Result<()> {
        let folder = if HELPERS.contains(&name) { "lib/io-pkt" } else { "bin" };
        place(&self.built.join(name), &self.prefix.join(folder).join(name), 0o755)
    }

    /// A module gets its shipped name, the C library that of its ABI.
    fn library(&self, package: &Package) -> Result<()> {
        let built = self.built.join(format!("lib{}.so", package.name.replace('-', "_")));
        if is_module(package) {
            return place(&built, &self.prefix.join(format!("lib/io-pkt/{}.so", package.name)), 0o644);
        }
        let (_, linked, soname) = C_LIBRARY;
        let lib = self.prefix.join("lib");
        place(&built, &lib.join(soname), 0o644)?;
        link(soname, &lib.join(linked))
    }

    /// QNX's names for the programs that exist.
    fn links(&self, programs: &[String]) -> Result<()> {
        for (name, program) in QNX_NAMES.iter().filter(|(_, program)| programs.iter().any(|p| p == program)) {
            link(program, &self.prefix.join("bin").join(name))?;
        }
        link("../bin/qnx-mount", &self.prefix.join("sbin/mount.io-pkt"))
    }

    fn headers(&self, workspace: &Workspace) -> Result<()> {
        let include = self.prefix.join("include");
        copy_tree(&root().join("modules/include"), &include)?;
        copy_tree(&root().join("lsm-qnet/client/include"), &include)?;
        let library = workspace.packages.iter().find(|package| package.name == C_LIBRARY.0);
        let version =
            library.map(|package| package.version.as_str()).context("no C library in the workspace")?;
        write(&self.prefix.join("lib/pkgconfig/qnet.pc"), &pkg_config(&self.prefix, version))
    }

    fn share(&self, programs: &[String]) -> Result<()> {
        let share = self.prefix.join("share");
        for page in man::pages()? {
            place(&page.path, &share.join("man").join(page.installed()), 0o644)?;
        }
        for (name, program) in QNX_NAMES.iter().filter(|(_, program)| programs.iter().any(|p| p == program)) {
            let page = man::of(program)?;
            let shown = format!("man/man{}/{name}.{}", page.section, page.section);
            write(&share.join(shown), &format!(".so {}\n", page.installed()))?;
        }
        copy_tree(&root().join("docs"), &share.join("doc/io-pkt"))?;
        for name in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
            if root().join(name).exists() {
                place(&root().join(name), &share.join("doc/io-pkt").join(name), 0o644)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn is_installed(package: &Package) -> bool {
    let has = |kind| package.targets_of(kind).next().is_some();
    !NOT_INSTALLED.contains(&package.name.as_str()) && (has("bin") || has("cdylib"))
}

pub(crate) fn is_module(package: &Package) -> bool {
    package.name == "lsm-qnet" || MODULE_PREFIXES.iter().any(|prefix| package.name.starts_with(prefix))
}

/// Copies a file by way of a new one beside it, so that a program in use can be replaced.
fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_parent(to)?;
    let mut fresh = to.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    fs::copy(from, &fresh)
        .with_context(|| format!("cannot copy {} to {}", from.display(), fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))
        .with_context(|| fresh.display().to_string())?;
    fs::rename(&fresh, to).with_context(|| format!("cannot make {}", to.display()))
}

fn link(target: &str, name: &Path) -> Result<()> {
    make_parent(name)?;
    if name.symlink_metadata().is_ok() {
        fs::remove_file(name).with_context(|| format!("cannot replace {}", name.display()))?;
    }
    symlink(target, name).with_context(|| format!("cannot make the link {}", name.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry.with_context(|| from.display().to_string())?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            place(&entry.path(), &target, 0o644)?;
        }
    }
    Ok(())
}

/// What `pkg-config --cflags --libs qnet` answers. Programs find a library outside of the system's folders by their rpath.
fn pkg_config(prefix: &Path, version: &str) -> String {
    let prefix = std::path::absolute(prefix).unwrap_or_else(|_| prefix.to_owned());
    let system = ["/", "/usr", "/usr/local"].iter().any(|system| prefix == Path::new(system));
    let rpath = if system { "" } else { " -Wl,-rpath,${libdir}" };
    format!(
        "prefix={}\nlibdir=${{prefix}}/lib\nincludedir=${{prefix}}/include/qnet\n\n\
         Name: qnet\nDescription: QNX message passing for Linux programs\nVersion: {version}\n\
         Libs: -L${{libdir}}{rpath} -lqnet\nCflags: -I${{includedir}}/overlay -I${{includedir}}\n",
        prefix.display(),
    )
}

#[cfg(test)]
mod tests;
