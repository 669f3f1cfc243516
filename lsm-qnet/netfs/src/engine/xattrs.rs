//! Extended attributes: asked of the node in one round trip each, over the caller's own open file if there is one, else over
//! the path.
//!
//! `ls -l` asks for a security label and an access list of each file. Where the listing that brought a file's attributes has said that it
//! has no extended ones, that is believed as long as the attributes are, and nobody is asked.
//!
//! `/net` itself has none. The rights that a program file may carry (`security.capability`) are answered here: no program gets
//! any from another node (the mount is nosuid), and copies must not take them along.

use std::time::{Duration, Instant};

use qnet_iomsg::{
    Stat,
    filesys::xattr::{CAPABILITY, NAME_MAX, Request, VALUE_MAX},
    stat::FLAG_BARE,
};

use super::{Engine, task::Task};
use crate::{
    fuse::{
        Operation,
        abi::{GetxattrOut, InHeader},
        reply,
    },
    inodes::Bare,
};

/// Attributes of which a node says with a listing that they are not there.
const LISTED: [&[u8]; 3] = [b"security.selinux", b"system.posix_acl_access", b"system.posix_acl_default"];

impl Engine {
    /// The task of an operation on extended attributes.
    pub(super) fn attribute_task(
        &mut self,
        header: &InHeader,
        operation: Operation<'_>,
    ) -> Result<Task, i32> {
        let nodeid = header.nodeid;
        let (request, size) = match operation {
            Operation::Getxattr { name, size } => (Request::Get { name, size }, size),
            Operation::Listxattr { size } => (Request::List { size }, size),
            Operation::Setxattr { name, value, flags } => (Request::Set { name, value, flags }, 0),
            Operation::Removexattr { name } => (Request::Remove { name }, 0),
            _ => return Err(libc::ENOSYS),
        };
        match request {
            Request::Get { .. } if self.is_local(nodeid) => return Err(libc::ENODATA),
            Request::Set { .. } | Request::Remove { .. } if self.is_local(nodeid) => return Err(libc::EPERM),
            Request::Get { name: CAPABILITY, .. } => return Err(libc::ENODATA),
            Request::Set { name: CAPABILITY, .. } | Request::Remove { name: CAPABILITY } => {
                return Err(libc::EOPNOTSUPP);
            }
            Request::Get { name, .. } | Request::Set { name, .. } | Request::Remove { name }
                if name.len() > NAME_MAX =>
            {
                return Err(libc::ERANGE);
            }
            Request::Set { value, .. } if value.len() > VALUE_MAX => return Err(libc::E2BIG),
            _ => {}
        }
        let fh = self.own_handle(header);
        let (message, behind) =
            if fh.is_some() { (request.emit(), &[][..]) } else { request.emit_for_connect() };
        let size = (!request.changes()).then_some(size);
        Ok(Task::Attribute { nodeid, fh, message: message.into(), behind: behind.into(), size })
    }

    /// The answer to a question about a file that is known to have no extended attributes, if that answers it. An attribute that is
    /// in no list, such as the type of a special file, is always asked for.
    pub(super) fn known_bare(
        &mut self,
        now: Instant,
        header: &InHeader,
        operation: &Operation<'_>,
    ) -> Option<Vec<u8>> {
        let (unique, nodeid) = (header.unique, header.nodeid);
        let inode = self.inodes.get(nodeid)?;
        let bare = inode.bare.filter(|bare| now < bare.until && bare.changes == self.changes)?;
        let parent = inode.parent()?;
        let answer = match *operation {
            Operation::Getxattr { name, .. } if LISTED.contains(&name) => {
                reply::status(unique, libc::ENODATA)
            }
            Operation::Listxattr { size } if bare.uid == header.uid => self.no_attributes(unique, size),
            _ => return None,
        };
        let caller = self.caller(header);
        (!self.lifetime_below(now, parent, &caller).is_zero()).then_some(answer)
    }

    /// Notes what attributes that came with a listing say of extended ones; they are fresh for the time that is `left`.
    pub(super) fn note_bare(&mut self, now: Instant, nodeid: u64, stat: &Stat, left: Duration, uid: u32) {
        let changes = self.changes;
        if let Some(inode) = self.inodes.get_mut(nodeid) {
            let is_bare = stat.flags & FLAG_BARE != 0;
            inode.bare = is_bare.then(|| Bare { until: now + left, changes, uid });
        }
    }

    /// The names of what has none.
    pub(super) fn no_attributes(&self, unique: u64, size: u32) -> Vec<u8> {
        if size == 0 { reply::body(unique, &GetxattrOut::default()) } else { reply::bytes(unique, &[]) }
    }
}

/// The node's answer to a question for `size` bytes (`None`: to a change).
pub(super) fn on_attribute(unique: u64, size: Option<u32>, status: i64, data: &[u8]) -> Result<Vec<u8>, i32> {
    let length = u32::try_from(status).map_err(|_| libc::EIO)?;
    match size {
        None => Ok(reply::status(unique, 0)),
        Some(0) => Ok(reply::body(unique, &GetxattrOut { size: length, padding: 0 })),
        Some(_) => data.get(..length as usize).map(|value| reply::bytes(unique, value)).ok_or(libc::EIO),
    }
}
