//! QNX's errno values against Linux's.
//!
//! QNX's numbers travel on the wire of Qnet, Linux's on local sockets; `lsm-qnet` translates at the
//! border. Up to 34 the two agree. Above, [`PAIRS`] holds the names that both have.
//!
//! Nothing is lost on the way from Linux over QNX's numbers back to Linux: a number that QNX has no
//! name for travels as [`FOREIGN`] + number, and the same range carries QNX's own errors
//! (`ESRVRFAULT`, `EENDIAN`, …) on local sockets. Two QNX numbers meet another of the same meaning on
//! Linux and return as that one: `ENOTSUP` (48) as `EOPNOTSUPP`, `EDEADLOCK` (56) as `EDEADLK`.
//!
//! What goes to the Linux kernel or into a program's `errno` must be a number Linux knows:
//! [`presentable`] folds the foreign ones.

macro_rules! errnos {
    ($(#[$doc:meta])* $module:ident { $($name:ident = $value:literal;)* }) => {
        $(#[$doc])*
        pub mod $module {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub const $name: i32 = $value;
            )*

            /// The name of a number of this table.
            #[must_use]
            pub fn name(errno: i32) -> Option<&'static str> {
                match errno {
                    $($name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// All numbers of this table.
            pub const ALL: &[i32] = &[$($name),*];
        }
    };
}

errnos! {
    /// Linux's values on x86-64 and AArch64 (a test compares them with libc).
    linux {
        EPERM = 1;
        ENOENT = 2;
        ESRCH = 3;
        EINTR = 4;
        EIO = 5;
        ENXIO = 6;
        E2BIG = 7;
        ENOEXEC = 8;
        EBADF = 9;
        ECHILD = 10;
        EAGAIN = 11;
        ENOMEM = 12;
        EACCES = 13;
        EFAULT = 14;
        ENOTBLK = 15;
        EBUSY = 16;
        EEXIST = 17;
        EXDEV = 18;
        ENODEV = 19;
        ENOTDIR = 20;
        EISDIR = 21;
        EINVAL = 22;
        ENFILE = 23;
        EMFILE = 24;
        ENOTTY = 25;
        ETXTBSY = 26;
        EFBIG = 27;
        ENOSPC = 28;
        ESPIPE = 29;
        EROFS = 30;
        EMLINK = 31;
        EPIPE = 32;
        EDOM = 33;
        ERANGE = 34;
        EDEADLK = 35;
        ENAMETOOLONG = 36;
        ENOLCK = 37;
        ENOSYS = 38;
        ENOTEMPTY = 39;
        ELOOP = 40;
        ENOMSG = 42;
        EIDRM = 43;
        ECHRNG = 44;
        EL2NSYNC = 45;
        EL3HLT = 46;
        EL3RST = 47;
        ELNRNG = 48;
        EUNATCH = 49;
        ENOCSI = 50;
        EL2HLT = 51;
        EBADE = 52;
        EBADR = 53;
        EXFULL = 54;
        ENOANO = 55;
        EBADRQC = 56;
        EBADSLT = 57;
        EBFONT = 59;
        ENOSTR = 60;
        ENODATA = 61;
        ETIME = 62;
        ENOSR = 63;
        ENONET = 64;
        ENOPKG = 65;
        EREMOTE = 66;
        ENOLINK = 67;
        EADV = 68;
        ESRMNT = 69;
        ECOMM = 70;
        EPROTO = 71;
        EMULTIHOP = 72;
        EDOTDOT = 73;
        EBADMSG = 74;
        EOVERFLOW = 75;
        ENOTUNIQ = 76;
        EBADFD = 77;
        EREMCHG = 78;
        ELIBACC = 79;
        ELIBBAD = 80;
        ELIBSCN = 81;
        ELIBMAX = 82;
        ELIBEXEC = 83;
        EILSEQ = 84;
        ERESTART = 85;
        ESTRPIPE = 86;
        EUSERS = 87;
        ENOTSOCK = 88;
        EDESTADDRREQ = 89;
        EMSGSIZE = 90;
        EPROTOTYPE = 91;
        ENOPROTOOPT = 92;
        EPROTONOSUPPORT = 93;
        ESOCKTNOSUPPORT = 94;
        EOPNOTSUPP = 95;
        EPFNOSUPPORT = 96;
        EAFNOSUPPORT = 97;
        EADDRINUSE = 98;
        EADDRNOTAVAIL = 99;
        ENETDOWN = 100;
        ENETUNREACH = 101;
        ENETRESET = 102;
        ECONNABORTED = 103;
        ECONNRESET = 104;
        ENOBUFS = 105;
        EISCONN = 106;
        ENOTCONN = 107;
        ESHUTDOWN = 108;
        ETOOMANYREFS = 109;
        ETIMEDOUT = 110;
        ECONNREFUSED = 111;
        EHOSTDOWN = 112;
        EHOSTUNREACH = 113;
        EALREADY = 114;
        EINPROGRESS = 115;
        ESTALE = 116;
        EUCLEAN = 117;
        ENOTNAM = 118;
        ENAVAIL = 119;
        EISNAM = 120;
        EREMOTEIO = 121;
        EDQUOT = 122;
        ENOMEDIUM = 123;
        EMEDIUMTYPE = 124;
        ECANCELED = 125;
        ENOKEY = 126;
        EKEYEXPIRED = 127;
        EKEYREVOKED = 128;
        EKEYREJECTED = 129;
        EOWNERDEAD = 130;
        ENOTRECOVERABLE = 131;
        ERFKILL = 132;
        EHWPOISON = 133;
    }
}

errnos! {
    /// QNX Neutrino's values.
    qnx {
        EPERM = 1;
        ENOENT = 2;
        ESRCH = 3;
        EINTR = 4;
        EIO = 5;
        ENXIO = 6;
        E2BIG = 7;
        ENOEXEC = 8;
        EBADF = 9;
        ECHILD = 10;
        EAGAIN = 11;
        ENOMEM = 12;
        EACCES = 13;
        EFAULT = 14;
        ENOTBLK = 15;
        EBUSY = 16;
        EEXIST = 17;
        EXDEV = 18;
        ENODEV = 19;
        ENOTDIR = 20;
        EISDIR = 21;
        EINVAL = 22;
        ENFILE = 23;
        EMFILE = 24;
        ENOTTY = 25;
        ETXTBSY = 26;
        EFBIG = 27;
        ENOSPC = 28;
        ESPIPE = 29;
        EROFS = 30;
        EMLINK = 31;
        EPIPE = 32;
        EDOM = 33;
        ERANGE = 34;
        ENOMSG = 35;
        EIDRM = 36;
        ECHRNG = 37;
        EL2NSYNC = 38;
        EL3HLT = 39;
        EL3RST = 40;
        ELNRNG = 41;
        EUNATCH = 42;
        ENOCSI = 43;
        EL2HLT = 44;
        EDEADLK = 45;
        ENOLCK = 46;
        ECANCELED = 47;
        ENOTSUP = 48;
        EDQUOT = 49;
        EBADE = 50;
        EBADR = 51;
        EXFULL = 52;
        ENOANO = 53;
        EBADRQC = 54;
        EBADSLT = 55;
        EDEADLOCK = 56;
        EBFONT = 57;
        EOWNERDEAD = 58;
        ENOSTR = 60;
        ENODATA = 61;
        ETIME = 62;
        ENOSR = 63;
        ENONET = 64;
        ENOPKG = 65;
        EREMOTE = 66;
        ENOLINK = 67;
        EADV = 68;
        ESRMNT = 69;
        ECOMM = 70;
        EPROTO = 71;
        EMULTIHOP = 74;
        EBADMSG = 77;
        ENAMETOOLONG = 78;
        EOVERFLOW = 79;
        ENOTUNIQ = 80;
        EBADFD = 81;
        EREMCHG = 82;
        ELIBACC = 83;
        ELIBBAD = 84;
        ELIBSCN = 85;
        ELIBMAX = 86;
        ELIBEXEC = 87;
        EILSEQ = 88;
        ENOSYS = 89;
        ELOOP = 90;
        ERESTART = 91;
        ESTRPIPE = 92;
        ENOTEMPTY = 93;
        EUSERS = 94;
        ENOTRECOVERABLE = 95;
        EOPNOTSUPP = 103;
        EFPOS = 110;
        ESTALE = 122;
        EINPROGRESS = 236;
        EALREADY = 237;
        ENOTSOCK = 238;
        EDESTADDRREQ = 239;
        EMSGSIZE = 240;
        EPROTOTYPE = 241;
        ENOPROTOOPT = 242;
        EPROTONOSUPPORT = 243;
        ESOCKTNOSUPPORT = 244;
        EPFNOSUPPORT = 246;
        EAFNOSUPPORT = 247;
        EADDRINUSE = 248;
        EADDRNOTAVAIL = 249;
        ENETDOWN = 250;
        ENETUNREACH = 251;
        ENETRESET = 252;
        ECONNABORTED = 253;
        ECONNRESET = 254;
        ENOBUFS = 255;
        EISCONN = 256;
        ENOTCONN = 257;
        ESHUTDOWN = 258;
        ETOOMANYREFS = 259;
        ETIMEDOUT = 260;
        ECONNREFUSED = 261;
        EHOSTDOWN = 264;
        EHOSTUNREACH = 265;
        EBADRPC = 272;
        ERPCMISMATCH = 273;
        EPROGUNAVAIL = 274;
        EPROGMISMATCH = 275;
        EPROCUNAVAIL = 276;
        ENOREMOTE = 300;
        ENONDP = 301;
        EBADFSYS = 302;
        EMORE = 309;
        ECTRLTERM = 310;
        ENOLIC = 311;
        ESRVRFAULT = 312;
        EENDIAN = 313;
        ESECTYPEINVAL = 314;
    }
}

/// Below this value or at it, the two systems use the same numbers.
const COMMON: i32 = 34;

/// A number of the other system travels as this plus the number: beside all that either system uses,
/// and below 4096, where an errno ends everywhere.
pub const FOREIGN: i32 = 0x800;

/// Highest number that is translated at all; anything else is answered as EIO.
const HIGHEST: i32 = 0x3ff;

/// Names above 34 that both systems have: (QNX, Linux).
pub const PAIRS: &[(i32, i32)] = &[
    (qnx::ENOMSG, linux::ENOMSG),
    (qnx::EIDRM, linux::EIDRM),
    (qnx::ECHRNG, linux::ECHRNG),
    (qnx::EL2NSYNC, linux::EL2NSYNC),
    (qnx::EL3HLT, linux::EL3HLT),
    (qnx::EL3RST, linux::EL3RST),
    (qnx::ELNRNG, linux::ELNRNG),
    (qnx::EUNATCH, linux::EUNATCH),
    (qnx::ENOCSI, linux::ENOCSI),
    (qnx::EL2HLT, linux::EL2HLT),
    (qnx::EDEADLK, linux::EDEADLK),
    (qnx::ENOLCK, linux::ENOLCK),
    (qnx::ECANCELED, linux::ECANCELED),
    (qnx::EDQUOT, linux::EDQUOT),
    (qnx::EBADE, linux::EBADE),
    (qnx::EBADR, linux::EBADR),
    (qnx::EXFULL, linux::EXFULL),
    (qnx::ENOANO, linux::ENOANO),
    (qnx::EBADRQC, linux::EBADRQC),
    (qnx::EBADSLT, linux::EBADSLT),
    (qnx::EBFONT, linux::EBFONT),
    (qnx::EOWNERDEAD, linux::EOWNERDEAD),
    (qnx::ENOSTR, linux::ENOSTR),
    (qnx::ENODATA, linux::ENODATA),
    (qnx::ETIME, linux::ETIME),
    (qnx::ENOSR, linux::ENOSR),
    (qnx::ENONET, linux::ENONET),
    (qnx::ENOPKG, linux::ENOPKG),
    (qnx::EREMOTE, linux::EREMOTE),
    (qnx::ENOLINK, linux::ENOLINK),
    (qnx::EADV, linux::EADV),
    (qnx::ESRMNT, linux::ESRMNT),
    (qnx::ECOMM, linux::ECOMM),
    (qnx::EPROTO, linux::EPROTO),
    (qnx::EMULTIHOP, linux::EMULTIHOP),
    (qnx::EBADMSG, linux::EBADMSG),
    (qnx::ENAMETOOLONG, linux::ENAMETOOLONG),
    (qnx::EOVERFLOW, linux::EOVERFLOW),
    (qnx::ENOTUNIQ, linux::ENOTUNIQ),
    (qnx::EBADFD, linux::EBADFD),
    (qnx::EREMCHG, linux::EREMCHG),
    (qnx::ELIBACC, linux::ELIBACC),
    (qnx::ELIBBAD, linux::ELIBBAD),
    (qnx::ELIBSCN, linux::ELIBSCN),
    (qnx::ELIBMAX, linux::ELIBMAX),
    (qnx::ELIBEXEC, linux::ELIBEXEC),
    (qnx::EILSEQ, linux::EILSEQ),
    (qnx::ENOSYS, linux::ENOSYS),
    (qnx::ELOOP, linux::ELOOP),
    (qnx::ERESTART, linux::ERESTART),
    (qnx::ESTRPIPE, linux::ESTRPIPE),
    (qnx::ENOTEMPTY, linux::ENOTEMPTY),
    (qnx::EUSERS, linux::EUSERS),
    (qnx::ENOTRECOVERABLE, linux::ENOTRECOVERABLE),
    (qnx::EOPNOTSUPP, linux::EOPNOTSUPP),
    (qnx::ESTALE, linux::ESTALE),
    (qnx::EINPROGRESS, linux::EINPROGRESS),
    (qnx::EALREADY, linux::EALREADY),
    (qnx::ENOTSOCK, linux::ENOTSOCK),
    (qnx::EDESTADDRREQ, linux::EDESTADDRREQ),
    (qnx::EMSGSIZE, linux::EMSGSIZE),
    (qnx::EPROTOTYPE, linux::EPROTOTYPE),
    (qnx::ENOPROTOOPT, linux::ENOPROTOOPT),
    (qnx::EPROTONOSUPPORT, linux::EPROTONOSUPPORT),
    (qnx::ESOCKTNOSUPPORT, linux::ESOCKTNOSUPPORT),
    (qnx::EPFNOSUPPORT, linux::EPFNOSUPPORT),
    (qnx::EAFNOSUPPORT, linux::EAFNOSUPPORT),
    (qnx::EADDRINUSE, linux::EADDRINUSE),
    (qnx::EADDRNOTAVAIL, linux::EADDRNOTAVAIL),
    (qnx::ENETDOWN, linux::ENETDOWN),
    (qnx::ENETUNREACH, linux::ENETUNREACH),
    (qnx::ENETRESET, linux::ENETRESET),
    (qnx::ECONNABORTED, linux::ECONNABORTED),
    (qnx::ECONNRESET, linux::ECONNRESET),
    (qnx::ENOBUFS, linux::ENOBUFS),
    (qnx::EISCONN, linux::EISCONN),
    (qnx::ENOTCONN, linux::ENOTCONN),
    (qnx::ESHUTDOWN, linux::ESHUTDOWN),
    (qnx::ETOOMANYREFS, linux::ETOOMANYREFS),
    (qnx::ETIMEDOUT, linux::ETIMEDOUT),
    (qnx::ECONNREFUSED, linux::ECONNREFUSED),
    (qnx::EHOSTDOWN, linux::EHOSTDOWN),
    (qnx::EHOSTUNREACH, linux::EHOSTUNREACH),
];

/// Translates an error of this machine for the wire.
///
/// 0 stays 0. A negative or senseless number becomes EIO, so that a failure never turns into success.
#[must_use]
pub fn linux_to_qnx(errno: i32) -> i32 {
    translate(errno, |wanted| PAIRS.iter().find(|(_, linux)| *linux == wanted).map(|(qnx, _)| *qnx))
}

/// Translates an error from the wire for this machine.
///
/// The result may lie above [`FOREIGN`] when Linux has no such error; see [`presentable`].
#[must_use]
pub fn qnx_to_linux(errno: i32) -> i32 {
    translate(errno, |wanted| match wanted {
        qnx::ENOTSUP => Some(linux::EOPNOTSUPP),
        qnx::EDEADLOCK => Some(linux::EDEADLK),
        _ => PAIRS.iter().find(|(qnx, _)| *qnx == wanted).map(|(_, linux)| *linux),
    })
}

fn translate(errno: i32, pair: impl Fn(i32) -> Option<i32>) -> i32 {
    match errno {
        0..=COMMON => errno,
        // a number of the target system that came here as a foreign one goes home
        _ if errno > FOREIGN && errno <= FOREIGN + HIGHEST => errno - FOREIGN,
        _ if errno > COMMON && errno <= HIGHEST => pair(errno).unwrap_or(FOREIGN + errno),
        _ => linux::EIO,
    }
}

/// An error in Linux's numbers that a Linux program can be shown.
///
/// QNX's own errors become the nearest Linux one, unknown numbers EIO, and 0 (which is no error)
/// stays 0.
#[must_use]
pub fn presentable(errno: i32) -> i32 {
    match errno {
        0 => 0,
        _ if linux::name(errno).is_some() => errno,
        _ => match errno - FOREIGN {
            qnx::ESRVRFAULT => linux::EFAULT,
            qnx::ENOREMOTE => linux::EREMOTE,
            qnx::EENDIAN | qnx::ERPCMISMATCH | qnx::EPROGMISMATCH => linux::EPROTO,
            qnx::EBADRPC | qnx::EPROGUNAVAIL | qnx::EPROCUNAVAIL => linux::EPROTONOSUPPORT,
            qnx::ENONDP => linux::ENONET,
            qnx::EMORE => linux::EAGAIN,
            _ => linux::EIO,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_numbers_agree_with_libc() {
        for (ours, theirs) in [
            (linux::EDEADLK, libc::EDEADLK),
            (linux::ENAMETOOLONG, libc::ENAMETOOLONG),
            (linux::ELOOP, libc::ELOOP),
            (linux::ENOSYS, libc::ENOSYS),
            (linux::EOPNOTSUPP, libc::EOPNOTSUPP),
            (linux::ENOTEMPTY, libc::ENOTEMPTY),
            (linux::EHOSTDOWN, libc::EHOSTDOWN),
            (linux::EHOSTUNREACH, libc::EHOSTUNREACH),
            (linux::ESTALE, libc::ESTALE),
            (linux::EBADMSG, libc::EBADMSG),
            (linux::EDQUOT, libc::EDQUOT),
            (linux::EHWPOISON, libc::EHWPOISON),
        ] {
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn every_linux_error_survives_the_wire() {
        for errno in 0..=133 {
            assert_eq!(qnx_to_linux(linux_to_qnx(errno)), errno, "errno {errno}");
        }
    }

    #[test]
    fn every_qnx_error_but_two_synonyms_survives_a_local_socket() {
        for &errno in qnx::ALL {
            let back = linux_to_qnx(qnx_to_linux(errno));
            match errno {
                qnx::ENOTSUP => assert_eq!(back, qnx::EOPNOTSUPP),
                qnx::EDEADLOCK => assert_eq!(back, qnx::EDEADLK),
                _ => assert_eq!(back, errno),
            }
        }
    }

    #[test]
    fn known_numbers_are_those_of_the_public_header() {
        for (linux, qnx) in [
            (linux::ENOENT, 2),
            (linux::ENOSYS, 89),
            (linux::ELOOP, 90),
            (linux::ENAMETOOLONG, 78),
            (linux::ESTALE, 122),
            (linux::ETIMEDOUT, 260),
            (linux::ECONNREFUSED, 261),
            (linux::EHOSTDOWN, 264),
            (linux::EHOSTUNREACH, 265),
        ] {
            assert_eq!(linux_to_qnx(linux), qnx);
            assert_eq!(qnx_to_linux(qnx), linux);
        }
        assert_eq!(qnx_to_linux(48), linux::EOPNOTSUPP);
        assert_eq!(linux_to_qnx(linux::EUCLEAN), FOREIGN + linux::EUCLEAN);
    }

    #[test]
    fn nonsense_is_an_error_never_success() {
        for errno in [-1, i32::MIN, i32::MAX, 0x2000, FOREIGN] {
            assert_eq!(qnx_to_linux(errno), linux::EIO, "{errno}");
            assert_eq!(linux_to_qnx(errno), linux::EIO, "{errno}");
        }
    }

    #[test]
    fn programs_see_only_errors_that_linux_has() {
        for errno in (1..0x1000).chain(qnx::ALL.iter().map(|e| qnx_to_linux(*e)).filter(|e| *e != 0)) {
            assert!(linux::name(presentable(errno)).is_some(), "{errno}");
        }
        assert_eq!(presentable(qnx_to_linux(qnx::ESRVRFAULT)), linux::EFAULT);
        assert!((0..0x1000).all(|errno| linux_to_qnx(errno) < 0x1000 && qnx_to_linux(errno) < 0x1000));
    }
}
