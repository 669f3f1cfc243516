//! Ethernet addresses.

use std::{fmt, str::FromStr};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether frames to it go to more than one station (broadcast included).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it was made up rather than bought from the IEEE.
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// A local station address made from six bytes of chance.
    #[must_use]
    pub const fn local(mut chance: [u8; 6]) -> Self {
        chance[0] = chance[0] & 0xfc | 2;
        Self(chance)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an Ethernet address: 12 hexadecimal digits are, with or without : or - between the octets"
)]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseMacError(text.to_owned());
        let digits: Vec<u8> = match text.len() {
            12 => text.bytes().collect(),
            17 => {
                let mark = text.as_bytes()[2];
                let marks_fit = text.bytes().skip(2).step_by(3).all(|byte| byte == mark);
                if !marks_fit || !matches!(mark, b':' | b'-') {
                    return Err(fail());
                }
                text.bytes().enumerate().filter(|(at, _)| at % 3 != 2).map(|(_, byte)| byte).collect()
            }
            _ => return Err(fail()),
        };
        let mut octets = [0; 6];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or_else(fail)?;
            let low = char::from(pair[1]).to_digit(16).ok_or_else(fail)?;
            *octet = (high << 4 | low) as u8;
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_marks() {
        for text in ["0200DeadBeef", "02:00:de:ad:be:ef", "02-00-DE-AD-BE-EF"] {
            assert_eq!(text.parse(), Ok(Mac([2, 0, 0xde, 0xad, 0xbe, 0xef])), "{text}");
        }
        assert_eq!(Mac([2, 0, 0xde, 0xad, 0xbe, 0xef]).to_string(), "02:00:de:ad:be:ef");
    }

    #[test]
    fn anything_else_is_refused_with_what_was_given() {
        for text in
            ["", "02", "02:00:de:ad:be:eg", "02:00-de:ad:be:ef", "+20000000000", "02:00:de:ad:be:\u{e9}"]
        {
            let error = text.parse::<Mac>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not an Ethernet address")), "{error}");
        }
    }

    #[test]
    fn made_up_addresses_are_local_station_addresses() {
        let mac = Mac::local([0xff; 6]);
        assert!(mac.is_local() && !mac.is_group());
        assert!(Mac::BROADCAST.is_group());
    }
}
