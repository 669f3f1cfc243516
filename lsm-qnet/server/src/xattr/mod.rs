//! Extended attributes: the kernel's, as it permits them to the mapped caller, and one of ours.
//!
//! `user.qnet.type` tells what a file is that other nodes show as a regular one ([`xattr::TRUE_TYPE`]). It can be read where it
//! means something and is in no list, so that copies do not carry it along.
//!
//! `security.capability` does not exist for other nodes: what they run from here is mounted there without such rights, and
//! what they write here must not get any.

mod sys;

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use qnet_iomsg::filesys::xattr::{self, CAPABILITY, Request, TRUE_TYPE};

use crate::resolve::Place;

/// Longest value and longest list of names, as in Linux.
const MAX: usize = 65_536;

/// Carries out a request for the file behind `fd`: the status, and the reply's data into `out`.
///
/// # Errors
/// EOPNOTSUPP: the place or the name has none. EPERM: ours cannot be changed. ERANGE: longer than the size in the request.
/// As the kernel's calls.
pub(crate) fn carry_out(
    fd: BorrowedFd<'_>,
    place: Place,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<i64, Errno> {
    match place {
        // whoever serves it could wait for this very request
        Place::Network => return Err(Errno::EOPNOTSUPP),
        Place::OwnProcess => return Err(Errno::EACCES),
        _ => {}
    }
    match *request {
        Request::Get { name: TRUE_TYPE, size } => give(true_type(fd)?.as_bytes(), size, out),
        Request::Get { name: CAPABILITY, .. } => Err(Errno::ENODATA),
        Request::Get { name, size } => {
            let name = text(name)?;
            let mut value = vec![0; (size as usize).min(MAX)];
            let len = sys::get(fd, &name, &mut value)?;
            out.extend_from_slice(value.get(..len).unwrap_or_default());
            Ok(len as i64)
        }
        Request::List { size } => give(&shown(fd)?, size, out),
        Request::Set { name: TRUE_TYPE, .. } | Request::Remove { name: TRUE_TYPE } => Err(Errno::EPERM),
        Request::Set { name: CAPABILITY, .. } | Request::Remove { name: CAPABILITY } => {
            Err(Errno::EOPNOTSUPP)
        }
        Request::Set { name, value, flags } => {
            let flags = match flags {
                xattr::CREATE => libc::XATTR_CREATE,
                xattr::REPLACE => libc::XATTR_REPLACE,
                _ => 0,
            };
            sys::set(fd, &text(name)?, value, flags).map(|()| 0)
        }
        Request::Remove { name } => sys::remove(fd, &text(name)?).map(|()| 0),
    }
}

/// Whether what is in no list of a file's attributes is not there, as far as this directory shows what its file system does: there
/// are access lists, and no security module makes up labels.
pub(crate) fn lists_are_complete(directory: BorrowedFd<'_>) -> bool {
    let ask = |name| sys::get(directory, name, &mut []);
    ask(c"security.selinux") == Err(Errno::ENODATA)
        && matches!(ask(c"system.posix_acl_access"), Ok(_) | Err(Errno::ENODATA))
}

/// Whether an entry of such a directory, a file or directory itself, has no attributes.
pub(crate) fn has_none(directory: BorrowedFd<'_>, name: &CStr) -> bool {
    sys::lists_nothing(directory, name)
}

/// As the kernel gives a value: its length when no room is offered, ERANGE when too little.
fn give(value: &[u8], size: u32, out: &mut Vec<u8>) -> Result<i64, Errno> {
    if size > 0 {
        if value.len() > size as usize {
            return Err(Errno::ERANGE);
        }
        out.extend_from_slice(value);
    }
    Ok(value.len() as i64)
}

/// The names of a file's attributes that exist for other nodes.
fn shown(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut names = vec![0; MAX];
    let len = sys::list(fd, &mut names)?;
    names.truncate(len);
    let shown = |name: &&[u8]| !matches!(name.strip_suffix(b"\0").unwrap_or(name), TRUE_TYPE | CAPABILITY);
    Ok(names.split_inclusive(|byte| *byte == 0).filter(shown).collect::<Vec<_>>().concat())
}

/// What a file is that is not shown as what it is.
fn true_type(fd: BorrowedFd<'_>) -> Result<String, Errno> {
    let stat = crate::sys::statx(fd, true)?;
    let number = || format!("{}:{}", stat.stx_rdev_major, stat.stx_rdev_minor);
    match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFIFO => Ok("fifo".to_owned()),
        libc::S_IFSOCK => Ok("socket".to_owned()),
        libc::S_IFCHR => Ok(format!("character {}", number())),
        libc::S_IFBLK => Ok(format!("block {}", number())),
        _ => Err(Errno::ENODATA),
    }
}

fn text(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;

    use super::*;

    fn ask(fd: BorrowedFd<'_>, request: &Request<'_>) -> Result<(i64, Vec<u8>), Errno> {
        let mut out = Vec::new();
        carry_out(fd, Place::Ordinary, request, &mut out).map(|status| (status, out))
    }

    fn get<'a>(name: &'a [u8], size: u32) -> Request<'a> {
        Request::Get { name, size }
    }

    /// A file on a file system with attributes for users.
    fn file() -> tempfile::NamedTempFile {
        tempfile::NamedTempFile::new().unwrap()
    }

    #[test]
    fn values_are_set_asked_for_by_length_and_taken_away() {
        let file = file();
        let fd = file.as_file().as_fd();
        let set = |value, flags| ask(fd, &Request::Set { name: b"user.colour", value, flags });
        assert_eq!(set(b"red", xattr::REPLACE), Err(Errno::ENODATA));
        assert_eq!(set(b"red", xattr::CREATE), Ok((0, vec![])));
        assert_eq!(set(b"blue\0", xattr::CREATE), Err(Errno::EEXIST));
        assert_eq!(set(b"blue\0", xattr::REPLACE), Ok((0, vec![])));
        assert_eq!(ask(fd, &get(b"user.colour", 0)), Ok((5, vec![])));
        assert_eq!(ask(fd, &get(b"user.colour", 4)), Err(Errno::ERANGE));
        assert_eq!(ask(fd, &get(b"user.colour", 99)), Ok((5, b"blue\0".to_vec())));
        assert_eq!(ask(fd, &Request::List { size: 0 }), Ok((12, vec![])));
        assert_eq!(ask(fd, &Request::List { size: 11 }), Err(Errno::ERANGE));
        assert_eq!(ask(fd, &Request::List { size: 12 }), Ok((12, b"user.colour\0".to_vec())));
        assert_eq!(ask(fd, &Request::Remove { name: b"user.colour" }), Ok((0, vec![])));
        assert_eq!(ask(fd, &get(b"user.colour", 99)), Err(Errno::ENODATA));
    }

    #[test]
    fn attributes_are_those_of_the_file_behind_an_o_path_descriptor() {
        let file = file();
        let found = open(file.path(), OFlag::O_PATH, Mode::empty()).unwrap();
        ask(found.as_fd(), &Request::Set { name: b"user.a", value: b"b", flags: 0 }).unwrap();
        let direct = ask(file.as_file().as_fd(), &get(b"user.a", 1));
        assert_eq!(
            (direct, ask(found.as_fd(), &get(b"user.a", 1))),
            (Ok((1, b"b".to_vec())), Ok((1, b"b".to_vec())))
        );
    }

    #[test]
    fn attributes_of_a_symbolic_link_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        let target = File::create(&target).map(|file| (file, target)).unwrap();
        std::os::unix::fs::symlink(&target.1, &link).unwrap();
        ask(target.0.as_fd(), &Request::Set { name: b"user.a", value: b"b", flags: 0 }).unwrap();
        let link = open(&link, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()).unwrap();
        assert_eq!(ask(link.as_fd(), &Request::List { size: 0 }), Ok((0, vec![])));
        let set = Request::Set { name: b"user.a", value: b"c", flags: 0 };
        assert_eq!(ask(link.as_fd(), &set), Err(Errno::EPERM), "links have none for users");
        assert_eq!(ask(target.0.as_fd(), &get(b"user.a", 9)), Ok((1, b"b".to_vec())));
    }

    #[test]
    fn the_true_type_is_that_of_special_files_and_cannot_be_changed() {
        let (null, file) = (File::open("/dev/null").unwrap(), file());
        assert_eq!(ask(null.as_fd(), &get(TRUE_TYPE, 64)), Ok((13, b"character 1:3".to_vec())));
        assert_eq!(ask(null.as_fd(), &get(TRUE_TYPE, 0)), Ok((13, vec![])));
        assert_eq!(ask(null.as_fd(), &get(TRUE_TYPE, 12)), Err(Errno::ERANGE));
        assert_eq!(ask(file.as_file().as_fd(), &get(TRUE_TYPE, 64)), Err(Errno::ENODATA));
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(ask(reader.as_fd(), &get(TRUE_TYPE, 64)), Ok((4, b"fifo".to_vec())));
        let set = Request::Set { name: TRUE_TYPE, value: b"x", flags: 0 };
        assert_eq!(ask(file.as_file().as_fd(), &set), Err(Errno::EPERM));
        assert_eq!(ask(file.as_file().as_fd(), &Request::Remove { name: TRUE_TYPE }), Err(Errno::EPERM));
    }

    #[test]
    fn rights_of_program_files_are_neither_seen_nor_given() {
        let file = file();
        let fd = file.as_file().as_fd();
        let set = Request::Set { name: CAPABILITY, value: &[0; 20], flags: 0 };
        assert_eq!(ask(fd, &set), Err(Errno::EOPNOTSUPP));
        // one that root gave it here
        let name = c"security.capability";
        let rights = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        if sys::set(fd, name, &rights, 0).is_ok() {
            assert_eq!(ask(fd, &Request::List { size: 0 }), Ok((0, vec![])));
        }
        assert_eq!(ask(fd, &get(CAPABILITY, 99)), Err(Errno::ENODATA));
    }

    #[test]
    fn a_network_directory_is_not_asked() {
        let file = file();
        let mut out = Vec::new();
        let asked = carry_out(file.as_file().as_fd(), Place::Network, &Request::List { size: 0 }, &mut out);
        assert_eq!(asked, Err(Errno::EOPNOTSUPP));
    }
}
