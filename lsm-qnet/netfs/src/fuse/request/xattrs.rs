//! Requests about extended attributes.

use super::{Arguments, MalformedRequest};
use crate::fuse::{
    abi::{GetxattrIn, SetxattrIn},
    opcode::Opcode,
    operation::Operation,
};

impl<'a> Arguments<'a> {
    pub(super) fn on_attributes(&self) -> Result<Operation<'a>, MalformedRequest> {
        Ok(match self.opcode {
            Opcode::Setxattr => {
                let (SetxattrIn { size, flags }, rest) = self.split()?;
                let name = self.text(rest)?;
                let value = rest.get(name.len() + 1..).unwrap_or_default();
                let value = value.get(..size as usize).ok_or_else(|| self.too_short())?;
                Operation::Setxattr { name, value, flags }
            }
            Opcode::Getxattr => {
                let (GetxattrIn { size, .. }, rest) = self.split()?;
                Operation::Getxattr { name: self.text(rest)?, size }
            }
            Opcode::Listxattr => Operation::Listxattr { size: self.head::<GetxattrIn>()?.size },
            _ => Operation::Removexattr { name: self.text(self.body)? },
        })
    }
}
