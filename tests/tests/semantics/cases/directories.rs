//! Directories: lists, many entries, changes while they are read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;

use crate::ops;
use crate::suite::{Case, Kind, Place, User};

pub(crate) const CASES: &[Case] = &[
    ("directory list", list),
    ("directory of many", many),
    ("directory changed while it is read", changed_while_read),
    ("directory links", links),
    ("directory tree removed", tree),
    ("names that come and go", come_and_go),
];

/// Entries of the larger directories.
const MANY: usize = 1000;

fn names(path: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn list(place: &Place) -> Result<()> {
    for kind in Kind::ALL {
        kind.make(&place.at(format!("{kind:?}")))?;
    }
    let mut types = Vec::new();
    for entry in fs::read_dir(place.path())? {
        let entry = entry?;
        let path = entry.path();
        let told = entry.file_type()?;
        let found = fs::symlink_metadata(&path)?;
        types.push((entry.file_name(), told == found.file_type()));
        let same = entry.metadata()?.ino() == found.ino();
        place.check(format_args!("{:?}: number", entry.file_name()), same, true);
    }
    types.sort();
    place.check("types", types.iter().filter(|(_, right)| !right).count(), 0);
    // Nothing is made for one kind, and two files for another.
    place.check("names", types.len(), Kind::ALL.len());
    let bob = place.dir("closed", User::Alice, 0o711)?;
    place.check("of one that may not be read", User::Bob.does(|| ops::list(&bob).map(|()| 0)), {
        Err(Errno::EACCES)
    });
    Ok(())
}

fn many(place: &Place) -> Result<()> {
    let name = |number: usize| format!("a file with a name of some length, number {number}");
    let failed = (0..MANY).filter(|number| ops::create(&place.at(name(*number))).is_err()).count();
    place.check("made", failed, 0);
    let all: BTreeSet<String> = (0..MANY).map(name).collect();
    place.check("listed", names(place.path())? == all, true);
    place.check("listed once each", fs::read_dir(place.path())?.count(), MANY);
    let failed = (0..MANY).filter(|number| ops::lstat(&place.at(name(*number))).is_err()).count();
    place.check("found", failed, 0);
    Ok(())
}

/// What is there from the first to the last look is listed once, whatever else comes and goes.
fn changed_while_read(place: &Place) -> Result<()> {
    for number in 0..MANY / 2 {
        fs::write(place.at(format!("stays{number}")), "")?;
        fs::write(place.at(format!("goes{number}")), "")?;
    }
    let mut seen = Vec::new();
    for (at, entry) in fs::read_dir(place.path())?.enumerate() {
        seen.push(entry?.file_name().to_string_lossy().into_owned());
        if at < MANY / 2 {
            ops::unlink(&place.at(format!("goes{at}")))?;
        }
    }
    let stayed: Vec<_> = seen.iter().filter(|name| name.starts_with("stays")).collect();
    let different: BTreeSet<_> = stayed.iter().collect();
    place.check("each is seen", different.len(), MANY / 2);
    place.check("each once", stayed.len(), MANY / 2);
    place.check("what went is gone", names(place.path())?.len(), MANY / 2);
    Ok(())
}

fn links(place: &Place) -> Result<()> {
    let dir = place.dir("dir", User::Root, 0o755)?;
    let count = || ops::attributes(&dir).map(|stat| stat.st_nlink);
    place.check("of an empty one", count(), Ok(2));
    for number in 0..5 {
        fs::create_dir(dir.join(number.to_string()))?;
    }
    place.check("with five in it", count(), Ok(7));
    fs::remove_dir(dir.join("3"))?;
    place.check("with four in it", count(), Ok(6));
    place.check("a file counts not", ops::create(&dir.join("file")).and_then(|()| count()), Ok(6));
    Ok(())
}

fn tree(place: &Place) -> Result<()> {
    let root = place.at("tree");
    for outer in 0..5 {
        for inner in 0..5 {
            let dir = root.join(format!("{outer}/{inner}"));
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("file"), "x")?;
            ops::symlink(Path::new("file"), &dir.join("link"))?;
        }
    }
    place.check("removed", fs::remove_dir_all(&root).is_ok(), true);
    place.check("it is gone", ops::lstat(&root), Err(Errno::ENOENT));
    Ok(())
}

/// Nobody on this node sees an old answer: not of a name that was missing, not of one that is gone.
fn come_and_go(place: &Place) -> Result<()> {
    let (path, other) = (place.at("name"), place.at("other"));
    let mut wrong = Vec::new();
    for round in 0..20 {
        let mut saw = |what: &str, seen: nix::Result<()>, right: nix::Result<()>| {
            if seen != right {
                wrong.push(format!("{round}: {what}: {seen:?}"));
            }
        };
        saw("missing", ops::lstat(&path), Err(Errno::ENOENT));
        ops::create(&path)?;
        saw("made", ops::lstat(&path), Ok(()));
        saw("made, by another", User::Bob.does(|| ops::lstat(&path).map(|()| 0)).map(drop), Ok(()));
        ops::rename(&path, &other)?;
        saw("renamed", ops::lstat(&path), Err(Errno::ENOENT));
        saw("its new name", ops::lstat(&other), Ok(()));
        ops::unlink(&other)?;
        saw("removed", ops::lstat(&other), Err(Errno::ENOENT));
        ops::mkdir(&other)?;
        saw("a directory now", ops::list(&other), Ok(()));
        ops::rmdir(&other)?;
    }
    place.check("every answer is the present one", wrong, Vec::<String>::new());
    Ok(())
}
