//! Extended attributes: asked of the node in one round trip each, over the caller's own open file if there is one, else over
//! the path.
//!
//! `/net` itself has none. The rights that a program file may carry (`security.capability`) are answered here: no program gets
//! any from another node (the mount is nosuid), and copies must not take them along.

use qnet_iomsg::filesys::xattr::{CAPABILITY, NAME_MAX, Request, VALUE_MAX};

use super::{Engine, task::Task};
use crate::fuse::{
    Operation,
    abi::{GetxattrOut, InHeader},
    reply,
};

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
