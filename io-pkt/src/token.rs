//! What an event of the poller is about: a class, a place, and a generation that unmasks late events.
//!
//! ```text
//!  63      56 55           32 31            0
//!  |  class  |  generation   |    place     |
//! ```

use mio::Token;

/// Who an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Somebody called `wake`.
    Waker = 0,
    /// The timer for deadlines.
    Timer = 1,
    /// SIGTERM or SIGINT.
    Signals = 2,
    /// A new control client.
    Listener = 3,
    /// A control client.
    Client = 4,
    /// A descriptor that a module watches.
    Source = 5,
    /// A helper process that ended.
    Helper = 6,
}

const CLASSES: [Class; 7] = [
    Class::Waker,
    Class::Timer,
    Class::Signals,
    Class::Listener,
    Class::Client,
    Class::Source,
    Class::Helper,
];
const GENERATION_MASK: u32 = (1 << 24) - 1;

/// A token taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Who it is for.
    pub class: Class,
    /// Counts the users of a place; the low 24 bits are kept.
    pub generation: u32,
    /// Index into the table of that class.
    pub place: u32,
}

impl Address {
    /// An address of a class with only one member.
    #[must_use]
    pub const fn only(class: Class) -> Self {
        Self { class, generation: 0, place: 0 }
    }

    /// An address of the `place`th member.
    #[must_use]
    pub fn new(class: Class, place: usize, generation: u32) -> Self {
        // Tables are bounded by the number of descriptors, far below 2^32.
        Self { class, generation: generation & GENERATION_MASK, place: place as u32 }
    }

    /// As the poller carries it.
    #[must_use]
    pub fn token(self) -> Token {
        let (class, generation) = (self.class as u64, u64::from(self.generation));
        Token((class << 56 | generation << 32 | u64::from(self.place)) as usize)
    }

    /// Takes a token apart; `None` for one that this daemon never made.
    #[must_use]
    pub fn of(token: Token) -> Option<Self> {
        let bits = token.0 as u64;
        let class = *CLASSES.get((bits >> 56) as usize)?;
        Some(Self { class, generation: (bits >> 32) as u32 & GENERATION_MASK, place: bits as u32 })
    }

    /// As a handle for modules: above 0.
    #[must_use]
    pub fn handle(self) -> i64 {
        (i64::from(self.generation) << 32 | i64::from(self.place)) + 1
    }

    /// The address behind a handle of that class.
    #[must_use]
    pub fn of_handle(class: Class, handle: i64) -> Option<Self> {
        let bits = u64::try_from(handle.checked_sub(1)?).ok()?;
        let generation = u32::try_from(bits >> 32).ok()?;
        (generation <= GENERATION_MASK).then_some(Self { class, generation, place: bits as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_tokens_and_handles() {
        for class in CLASSES {
            for (place, generation) in [(0, 0), (1, 1), (u32::MAX as usize, GENERATION_MASK)] {
                let address = Address::new(class, place, generation);
                assert_eq!(Address::of(address.token()), Some(address));
                assert!(address.handle() > 0);
                assert_eq!(Address::of_handle(class, address.handle()), Some(address));
            }
        }
    }

    #[test]
    fn foreign_numbers_are_nobodys_address() {
        assert_eq!(Address::of(Token(usize::MAX)), None);
        for handle in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(Address::of_handle(Class::Source, handle), None, "{handle}");
        }
    }
}
