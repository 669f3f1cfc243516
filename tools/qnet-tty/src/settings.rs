//! Which settings belong to whom.
//!
//! Programs treat the local terminal as they like: its line editing, echo and signal keys are made here, once. The far terminal
//! is raw meanwhile, so that nothing is done twice. What has a meaning only there is passed on when it changes here: speed, size
//! of characters, parity, stop bits, hardware flow control, and the size of the window.

use std::os::fd::BorrowedFd;

use anyhow::Result;
use qnet::terminal::{Attributes, Size, Terminal, command};

use crate::sys;

/// Control flags that mean something on the wire.
const LINE: u32 =
    libc::CSIZE | libc::CSTOPB | libc::PARENB | libc::PARODD | libc::CRTSCTS | libc::CLOCAL | libc::HUPCL;

/// What was there before, and what was passed on last.
#[derive(Debug)]
pub(crate) struct Settings {
    before: Attributes,
    raw: Attributes,
    size: Size,
}

impl Settings {
    /// Gives the local terminal the far one's settings, and sets that to raw.
    pub(crate) fn take(far: &Terminal, near: BorrowedFd<'_>) -> Result<Self> {
        let before = far.attributes()?;
        let size = far.size()?;
        sys::set_attributes(near, &before)?;
        sys::set_size(near, size)?;
        let raw = raw(&before);
        far.set_attributes(command::TCSETATTR, &raw)?;
        Ok(Self { before, raw, size })
    }

    /// Makes at the far terminal what has changed at the local one.
    pub(crate) fn follow(&mut self, far: &Terminal, near: BorrowedFd<'_>) -> Result<()> {
        let wanted = line_of(&self.raw, &sys::attributes(near)?);
        if wanted != self.raw {
            far.set_attributes(command::TCSETATTR, &wanted)?;
            self.raw = wanted;
        }
        let size = sys::size(near)?;
        if size != self.size {
            far.set_size(size)?;
            self.size = size;
        }
        Ok(())
    }

    /// The far terminal gets back what it had, as far as it can still be reached.
    pub(crate) fn give_back(&self, far: &Terminal) {
        let _ = far.set_attributes(command::TCSETATTR, &self.before);
    }
}

/// Attributes with which each byte goes through as it is.
fn raw(attributes: &Attributes) -> Attributes {
    let input = libc::IGNBRK
        | libc::BRKINT
        | libc::PARMRK
        | libc::ISTRIP
        | libc::INLCR
        | libc::IGNCR
        | libc::ICRNL
        | libc::IXON
        | libc::IXOFF;
    let local = libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN;
    let mut characters = attributes.characters;
    characters[libc::VMIN] = 1;
    characters[libc::VTIME] = 0;
    Attributes {
        input: attributes.input & !input,
        output: attributes.output & !libc::OPOST,
        local: attributes.local & !local,
        characters,
        ..*attributes
    }
}

/// `far` with what means something on the wire taken from `near`.
fn line_of(far: &Attributes, near: &Attributes) -> Attributes {
    Attributes { control: far.control & !LINE | near.control & LINE, speed: near.speed, ..*far }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKED: Attributes = Attributes {
        input: libc::ICRNL | libc::IXON | libc::IUTF8,
        output: libc::OPOST | libc::ONLCR,
        control: libc::CS8 | libc::CREAD | libc::HUPCL,
        local: libc::ISIG | libc::ICANON | libc::ECHO | libc::IEXTEN,
        speed: [9600, 9600],
        line: 0,
        characters: [0; 19],
    };

    #[test]
    fn the_far_terminal_changes_no_byte() {
        let raw = raw(&COOKED);
        assert_eq!((raw.input, raw.output & libc::OPOST, raw.local), (libc::IUTF8, 0, 0));
        assert_eq!((raw.control, raw.speed), (COOKED.control, COOKED.speed));
        assert_eq!((raw.characters[libc::VMIN], raw.characters[libc::VTIME]), (1, 0));
    }

    #[test]
    fn only_what_means_something_on_the_wire_is_passed_on() {
        let near = Attributes {
            control: libc::CS7 | libc::PARENB | libc::CREAD,
            speed: [300, 300],
            local: 0,
            ..COOKED
        };
        let far = line_of(&raw(&COOKED), &near);
        assert_eq!((far.control, far.speed), (libc::CS7 | libc::PARENB | libc::CREAD, [300, 300]));
        assert_eq!(Attributes { control: COOKED.control, speed: COOKED.speed, ..far }, raw(&COOKED));
    }
}
