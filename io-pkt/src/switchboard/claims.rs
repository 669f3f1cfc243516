//! Which protocol wants which frames.
//!
//! An ethertype belongs to one protocol. Protocols that ask for all frames (bridges) get them beside it: a bridge
//! forwards Qnet's frames although this node reads them too.

use thiserror::Error;

use super::ProtocolSlot;

/// Most protocols at a time.
pub(super) const MAX_PROTOCOLS: u8 = 250;
/// Smallest ethertype; smaller values are lengths (IEEE 802.3).
const FIRST_ETHERTYPE: u32 = 0x0600;

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// Not an ethertype.
    #[error("0x{0:x} is not an ethertype (0x600 to 0xffff, or 0 for all frames)")]
    Impossible(u32),
    /// Another protocol has it.
    #[error("ethertype 0x{0:04x} belongs to another protocol")]
    Taken(u16),
}

/// The claims of all protocols.
#[derive(Debug)]
pub(super) struct Claims {
    /// By ethertype: slot + 1, or 0. One look-up a frame, no hashing.
    by_type: Box<[u8; 1 << 16]>,
    all: Vec<ProtocolSlot>,
    /// Number of entries in `by_type`.
    typed: usize,
}

impl Default for Claims {
    fn default() -> Self {
        Self { by_type: Box::new([0; 1 << 16]), all: Vec::new(), typed: 0 }
    }
}

impl Claims {
    pub(super) fn add(&mut self, slot: ProtocolSlot, ethertype: u32) -> Result<(), ClaimError> {
        if ethertype == 0 {
            if !self.all.contains(&slot) {
                self.all.push(slot);
            }
            return Ok(());
        }
        let value = u16::try_from(ethertype)
            .ok()
            .filter(|_| ethertype >= FIRST_ETHERTYPE)
            .ok_or(ClaimError::Impossible(ethertype))?;
        let entry = &mut self.by_type[usize::from(value)];
        if *entry == slot.0 + 1 {
            return Ok(());
        }
        if *entry != 0 {
            return Err(ClaimError::Taken(value));
        }
        *entry = slot.0 + 1;
        self.typed += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, slot: ProtocolSlot) {
        self.all.retain(|other| *other != slot);
        for entry in self.by_type.iter_mut().filter(|entry| **entry == slot.0 + 1) {
            *entry = 0;
            self.typed -= 1;
        }
    }

    /// The one protocol that gets everything, when there is no other claim at all.
    #[inline]
    pub(super) fn single_all(&self) -> Option<ProtocolSlot> {
        match self.all[..] {
            [only] if self.typed == 0 => Some(only),
            _ => None,
        }
    }

    /// Everybody who gets frames of that ethertype, each once.
    #[inline]
    pub(super) fn receivers(&self, ethertype: u16) -> impl Iterator<Item = ProtocolSlot> + '_ {
        let owner = self.by_type[usize::from(ethertype)].checked_sub(1).map(ProtocolSlot);
        owner.into_iter().chain(self.all.iter().copied().filter(move |slot| Some(*slot) != owner))
    }
}
