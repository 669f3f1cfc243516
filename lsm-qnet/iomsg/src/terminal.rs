//! Terminals of other nodes: the `_IO_DEVCTL` requests of QNX that we answer, and what they carry.
//!
//! The numbers are QNX's (command and class in the low 16 bits; behind them the size of the data and its direction), and so is
//! the window's size, four numbers of 16 bits. QNX's `struct termios` is not public as bytes, so the one here is **ours**; a
//! request whose size is another one is answered with ENOTTY and changes nothing.
//!
//! ```text
//! attributes: iflag, oflag, cflag, lflag u32 (Linux's bits)   ispeed, ospeed u32 (bits per second)   line u8   cc 19 bytes
//! size:       rows, columns, x pixels, y pixels u16
//!
//! DEVCTL's reply: zero u32, what ioctl() returns u32, bytes of data u32, zero u32, data
//! ```

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::message::Io;
use crate::{ParseError, take};

/// The low 16 bits of `dcmd`.
pub mod command {
    /// Is it a terminal?
    pub const ISATTY: u16 = 0x0318;
    /// Its attributes.
    pub const TCGETATTR: u16 = 0x7413;
    /// New attributes, at once.
    pub const TCSETATTR: u16 = 0x7414;
    /// New attributes, when everything is written.
    pub const TCSETATTRD: u16 = 0x7415;
    /// The same; what was not read is thrown away.
    pub const TCSETATTRF: u16 = 0x7416;
    /// New size of the window.
    pub const SETSIZE: u16 = 0x7467;
    /// Size of the window.
    pub const GETSIZE: u16 = 0x7468;
}

/// The driver gives data.
const FROM: u32 = 0x4000_0000;
/// The client gives data.
const TO: u32 = 0x8000_0000;

/// Special characters, as Linux counts them.
pub const CHARACTERS: usize = 19;

/// Attributes of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Input flags, Linux's.
    pub input: u32,
    /// Output flags, Linux's.
    pub output: u32,
    /// Control flags, Linux's, without the speed.
    pub control: u32,
    /// Local flags, Linux's.
    pub local: u32,
    /// Bits per second: in, out.
    pub speed: [u32; 2],
    /// Line discipline.
    pub line: u8,
    /// Special characters.
    pub characters: [u8; CHARACTERS],
}

/// Size of a terminal's window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Width and height in dots.
    pub dots: [u16; 2],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Body {
    flags: [U32; 4],
    speed: [U32; 2],
    line: u8,
    characters: [u8; CHARACTERS],
}

/// A request to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Is it one?
    IsTerminal,
    /// Its attributes.
    Attributes,
    /// New ones; `command` says when ([`command::TCSETATTR`] and its neighbours).
    SetAttributes {
        /// The command.
        command: u16,
        /// The attributes.
        attributes: Attributes,
    },
    /// Size of its window.
    Size,
    /// A new one.
    SetSize(Size),
}

impl Request {
    /// What a DEVCTL asks a terminal for; `None`: nothing that is known here.
    ///
    /// # Errors
    /// The size is another one than this request has, or there are fewer bytes.
    pub fn parse(dcmd: u32, data: &[u8]) -> Result<Option<Self>, ParseError> {
        let (command, size) = (dcmd as u16, (dcmd >> 16) & 0x3fff);
        let is = |wanted: usize| match size as usize == wanted {
            true => Ok(()),
            false => Err(ParseError::Invalid { what: "dcmd", value: dcmd.into() }),
        };
        Ok(Some(match command {
            command::ISATTY => Self::IsTerminal,
            command::TCGETATTR => is(size_of::<Body>()).map(|()| Self::Attributes)?,
            command::TCSETATTR | command::TCSETATTRD | command::TCSETATTRF => {
                is(size_of::<Body>())?;
                Self::SetAttributes { command, attributes: Attributes::parse(data)? }
            }
            command::GETSIZE => is(size_of::<[U16; 4]>()).map(|()| Self::Size)?,
            command::SETSIZE => {
                is(size_of::<[U16; 4]>())?;
                Self::SetSize(Size::parse(data)?)
            }
            _ => return Ok(None),
        }))
    }

    /// The whole DEVCTL message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let with_size = |direction: u32, command: u16, size: usize| {
            direction | u32::try_from(size).unwrap_or(0) << 16 | u32::from(command)
        };
        let (dcmd, data) = match self {
            Self::IsTerminal => (u32::from(command::ISATTY), vec![]),
            Self::Attributes => (with_size(FROM, command::TCGETATTR, size_of::<Body>()), vec![]),
            Self::SetAttributes { command, attributes } => {
                (with_size(TO, *command, size_of::<Body>()), attributes.emit())
            }
            Self::Size => (with_size(FROM, command::GETSIZE, size_of::<[U16; 4]>()), vec![]),
            Self::SetSize(size) => (with_size(TO, command::SETSIZE, size_of::<[U16; 4]>()), size.emit()),
        };
        Io::Devctl { dcmd, nbytes: (dcmd >> 16) & 0x3fff, data: &data }.to_bytes()
    }

    /// True when it changes the terminal.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(self, Self::SetAttributes { .. } | Self::SetSize(_))
    }
}

impl Attributes {
    /// Reads the structure.
    ///
    /// # Errors
    /// Too short.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let (Body { flags, speed, line, characters }, _) = take::<Body>(data, "terminal attributes")?;
        let [input, output, control, local] = flags.map(U32::get);
        Ok(Self { input, output, control, local, speed: speed.map(U32::get), line, characters })
    }

    /// Its bytes.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let Self { input, output, control, local, speed, line, characters } = *self;
        let flags = [input, output, control, local].map(U32::new);
        Body { flags, speed: speed.map(U32::new), line, characters }.as_bytes().to_vec()
    }
}

impl Size {
    /// Reads the structure.
    ///
    /// # Errors
    /// Too short.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let ([rows, columns, x, y], _) = take::<[U16; 4]>(data, "window size")?;
        Ok(Self { rows: rows.get(), columns: columns.get(), dots: [x.get(), y.get()] })
    }

    /// Its bytes.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        [self.rows, self.columns, self.dots[0], self.dots[1]].map(u16::to_le_bytes).concat()
    }
}

/// Speeds that Linux's control flags have a number for, in the order of the numbers: from 1, and from 0x1001 on.
const SLOW: [u32; 15] = [50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400];
const FAST: [u32; 15] = [
    57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000,
    2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

/// Linux's number for a speed, which programs that know no other speeds look for. `None`: it has none.
#[must_use]
pub fn speed_number(speed: u32) -> Option<u32> {
    let at = |table: &[u32], first: u32| {
        let index = table.iter().position(|known| *known == speed)?;
        u32::try_from(index).ok().map(|index| first + index)
    };
    at(&SLOW, 1).or_else(|| at(&FAST, 0x1001))
}

/// A DEVCTL's reply: what the driver returns, and its data.
#[must_use]
pub fn reply(returned: u32, data: &[u8]) -> Vec<u8> {
    let head = [0, returned, u32::try_from(data.len()).unwrap_or(u32::MAX), 0].map(u32::to_le_bytes);
    [head.as_flattened(), data].concat()
}

/// Reads a DEVCTL's reply.
///
/// # Errors
/// Too short for what it says.
pub fn parse_reply(bytes: &[u8]) -> Result<(u32, &[u8]), ParseError> {
    let ([_, returned, nbytes, _], data) = take::<[U32; 4]>(bytes, "reply of DEVCTL")?;
    let need = nbytes.get() as usize;
    let short = ParseError::Short { what: "data of DEVCTL", need, have: data.len() };
    Ok((returned.get(), data.get(..need).ok_or(short)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTES: Attributes = Attributes {
        input: 0x500,
        output: 5,
        control: 0x8b0,
        local: 0x8a3b,
        speed: [115_200, 9600],
        line: 0,
        characters: [3; CHARACTERS],
    };

    #[test]
    fn requests_are_read_as_they_were_written() {
        let size = Size { rows: 24, columns: 80, dots: [640, 480] };
        let set = Request::SetAttributes { command: command::TCSETATTRD, attributes: ATTRIBUTES };
        for request in [Request::IsTerminal, Request::Attributes, set, Request::Size, Request::SetSize(size)]
        {
            let bytes = request.emit();
            let (Io::Devctl { dcmd, data, .. }, None) = Io::parse(&bytes).unwrap() else {
                panic!("a DEVCTL")
            };
            assert_eq!(Request::parse(dcmd, data), Ok(Some(request)));
            for len in 0..data.len() {
                assert!(Request::parse(dcmd, &data[..len]).is_err(), "{len} bytes");
            }
        }
    }

    #[test]
    fn speeds_have_the_numbers_that_the_c_library_knows() {
        for (speed, number) in [
            (50, libc::B50),
            (134, libc::B134),
            (9600, libc::B9600),
            (38_400, libc::B38400),
            (57_600, libc::B57600),
            (115_200, libc::B115200),
            (1_152_000, libc::B1152000),
            (4_000_000, libc::B4000000),
        ] {
            assert_eq!(speed_number(speed), Some(number), "{speed}");
        }
        assert_eq!((speed_number(31_250), speed_number(0)), (None, None));
    }

    #[test]
    fn a_structure_of_another_size_is_not_taken_for_ours() {
        let dcmd = FROM | 76 << 16 | u32::from(command::TCGETATTR);
        assert!(Request::parse(dcmd, &[]).is_err());
        assert_eq!(Request::parse(0x40d0_020d, &[]), Ok(None), "of a file system");
    }

    #[test]
    fn a_reply_is_read_as_it_was_written_and_cut_ones_are_refused() {
        let bytes = reply(1, &ATTRIBUTES.emit());
        let (returned, data) = parse_reply(&bytes).unwrap();
        assert_eq!((returned, Attributes::parse(data)), (1, Ok(ATTRIBUTES)));
        for len in 0..bytes.len() {
            assert!(parse_reply(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
