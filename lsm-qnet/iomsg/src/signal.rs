//! Signals: QNX's numbers against Linux's, and our `_IO_MSG` that sends one to a process of another node.
//!
//! QNX's numbers travel between nodes, Linux's on local sockets and in programs. KIF has a SIGNAL of its own, which nobody
//! answers; who wants to know what came of it asks the node's server (process 1, channel 1), which sends the signal as the
//! caller, and answers with nothing or an errno. All of it is ours:
//!
//! ```text
//! SIGNAL: signo i32 (QNX's number; 0 only looks)  pid i32  tid i32 (0: the process)  code i32  value u64
//! ```

use zerocopy::little_endian::{I32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::message::Io;
use crate::{ParseError, take};

/// The id of these requests in `_IO_MSG`, one of those that QNX leaves to everybody.
pub const MGRID: u16 = 0xf002;

const SIGNAL: u16 = 1;

/// Signals that both have under different numbers: (QNX's, Linux's on x86-64 and AArch64). Below 16 all that QNX has are
/// Linux's, but for those that this table begins with.
const PAIRS: &[(i32, i32)] = &[
    (10, 7),  // BUS
    (12, 31), // SYS
    (16, 10), // USR1
    (17, 12), // USR2
    (18, 17), // CHLD
    (19, 30), // PWR
    (20, 28), // WINCH
    (21, 23), // URG
    (22, 29), // POLL
    (23, 19), // STOP
    (24, 20), // TSTP
    (25, 18), // CONT
    (26, 21), // TTIN
    (27, 22), // TTOU
    (28, 26), // VTALRM
    (29, 27), // PROF
    (30, 24), // XCPU
    (31, 25), // XFSZ
];
/// The same number on both: HUP, INT, QUIT, ILL, TRAP, ABRT, FPE, KILL, SEGV, PIPE, ALRM, TERM; and 0, which is none.
const SAME: &[i32] = &[0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 14, 15];
/// Real-time signals: QNX has 16 from 41 on, Linux leaves programs those from 34 on.
const REAL_TIME: (i32, i32, i32) = (41, 34, 16);

/// Linux's number of QNX's signal; `None` for one that Linux has not (`SIGEMT`, Neutrino's own from 57 on).
#[must_use]
pub fn qnx_to_linux(signo: i32) -> Option<i32> {
    let (qnx, linux, count) = REAL_TIME;
    if (qnx..qnx + count).contains(&signo) {
        return Some(signo - qnx + linux);
    }
    let pair = PAIRS.iter().find(|(qnx, _)| *qnx == signo).map(|(_, linux)| *linux);
    pair.or_else(|| SAME.contains(&signo).then_some(signo))
}

/// QNX's number of Linux's signal; `None` for one that QNX has not (`SIGSTKFLT`, real-time ones from the 17th on).
#[must_use]
pub fn linux_to_qnx(signo: i32) -> Option<i32> {
    let (qnx, linux, count) = REAL_TIME;
    if (linux..linux + count).contains(&signo) {
        return Some(signo - linux + qnx);
    }
    let pair = PAIRS.iter().find(|(_, linux)| *linux == signo).map(|(qnx, _)| *qnx);
    pair.or_else(|| SAME.contains(&signo).then_some(signo))
}

/// A signal for a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    /// QNX's number; 0: only look whether the caller could send one.
    pub signo: i32,
    /// The process.
    pub pid: i32,
    /// One thread of it, by the node's number for it; 0: the process.
    pub tid: i32,
    /// `si_code`; 0 (`SI_USER`) unless a value comes along.
    pub code: i32,
    /// `si_value`, as a number.
    pub value: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Body {
    signo: I32,
    pid: I32,
    tid: I32,
    code: I32,
    value: U64,
}

impl Request {
    /// Reads the request out of a whole `_IO_MSG` message.
    ///
    /// # Errors
    /// Not an `_IO_MSG`, another manager's, an unknown subtype or a body that is too short.
    pub fn parse(message: &[u8]) -> Result<Self, ParseError> {
        let (subtype, data) = Io::parse_for(MGRID, message)?;
        if subtype != SIGNAL {
            return Err(ParseError::Unknown { what: "signal subtype", value: subtype.into() });
        }
        let Body { signo, pid, tid, code, value } = take::<Body>(data, "SIGNAL")?.0;
        let [signo, pid, tid, code] = [signo, pid, tid, code].map(I32::get);
        Ok(Self { signo, pid, tid, code, value: value.get() })
    }

    /// The whole `_IO_MSG` message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let Self { signo, pid, tid, code, value } = *self;
        let [signo, pid, tid, code] = [signo, pid, tid, code].map(I32::new);
        let body = Body { signo, pid, tid, code, value: value.into() };
        Io::Msg { mgrid: MGRID, subtype: SIGNAL, data: body.as_bytes() }.to_bytes()
    }
}

/// Whether a message is one of these, right or wrong.
#[must_use]
pub fn is_request(message: &[u8]) -> bool {
    matches!(Io::parse(message), Ok((Io::Msg { mgrid: MGRID, .. }, _)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_lead_back_to_themselves() {
        for qnx in 0..64 {
            if let Some(linux) = qnx_to_linux(qnx) {
                assert_eq!(linux_to_qnx(linux), Some(qnx), "{qnx}");
            }
        }
        let known: Vec<i32> = (0..65).filter(|linux| linux_to_qnx(*linux).is_some()).collect();
        let without_stkflt = (0..=31).filter(|number| *number != 16);
        assert_eq!(known, without_stkflt.chain(34..50).collect::<Vec<i32>>());
        assert_eq!((qnx_to_linux(7), qnx_to_linux(57), qnx_to_linux(-1)), (None, None, None));
    }

    #[test]
    fn numbers_are_those_of_the_names() {
        use libc::{
            SIGBUS, SIGCHLD, SIGCONT, SIGKILL, SIGPOLL, SIGSTOP, SIGSYS, SIGTERM, SIGTTOU, SIGUSR1, SIGUSR2,
        };
        for (name, qnx) in [
            (SIGKILL, 9),
            (SIGBUS, 10),
            (SIGSYS, 12),
            (SIGTERM, 15),
            (SIGUSR1, 16),
            (SIGUSR2, 17),
            (SIGCHLD, 18),
            (SIGPOLL, 22),
            (SIGSTOP, 23),
            (SIGCONT, 25),
            (SIGTTOU, 27),
        ] {
            assert_eq!(linux_to_qnx(name), Some(qnx), "{name}");
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_cut_ones_are_refused() {
        let request = Request { signo: 16, pid: 4242, tid: 7, code: -1, value: 0x1122_3344_5566_7788 };
        let bytes = request.emit();
        assert!(is_request(&bytes));
        assert_eq!(Request::parse(&bytes), Ok(request));
        for len in 0..bytes.len() {
            assert!(Request::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        let other = Io::Msg { mgrid: crate::netmgr::MGRID, subtype: 1, data: &[0; 24] }.to_bytes();
        assert!(!is_request(&other) && Request::parse(&other).is_err());
    }
}
