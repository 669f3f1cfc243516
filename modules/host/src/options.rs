//! Options of modules: what is known, what was given, and whether the two agree.
//!
//! The module declares its options as data; this file checks what the operator typed before the module hears of it, so
//! that every module gives the same errors: the option, the value, what is accepted.

use std::fmt;

use io_pkt_abi::{OptionSpec, info::option_kind};

/// Smallest and largest `mtu=`, Ethernet header included as in QNX: IPv4's least payload of 68, and 64 KiB.
const MTU: OptionKind = OptionKind::Number { min: 82, max: 65_535 };

/// What an option's value looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// A bare word, or `0` or `1`.
    Flag,
    /// A decimal or `0x` number.
    Number {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// Any text but an empty one.
    Text,
    /// An Ethernet address of a station.
    Mac,
    /// One of these words.
    Choice(Vec<String>),
}

/// An option that a module understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionInfo {
    /// Name before the `=`.
    pub name: String,
    /// One line for people.
    pub help: String,
    /// What its value looks like.
    pub kind: OptionKind,
    /// Whether it may be given more than once.
    pub repeats: bool,
}

/// An option as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Text before the `=`.
    pub name: String,
    /// Text after it, if there is an `=`.
    pub value: Option<String>,
}

/// Options of a driver or protocol, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// For the module: names and values; a flag that is set has the value `1`.
    pub pass: Vec<(String, String)>,
    /// Driver: `verbose` or `verbose=N`, which the daemon acts on.
    pub verbose: Option<u64>,
    /// Driver: `lan=N`, the number of the interface.
    pub lan: Option<u32>,
    /// Driver: `uptype=NAME`, the prefix of the interface's name.
    pub uptype: Option<String>,
}

/// An option that is not accepted. One line: the option, the value, what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Nobody knows the name.
    #[error("{module}: unknown option {name:?}; known options: {known}")]
    Unknown {
        /// The module.
        module: String,
        /// The name as given.
        name: String,
        /// All that are known, with the shape of their values.
        known: String,
    },
    /// The value does not fit.
    #[error("{module}: option {name}: expected {accepted}, found {found}")]
    Value {
        /// The module.
        module: String,
        /// The name.
        name: String,
        /// What is accepted.
        accepted: String,
        /// What was given.
        found: String,
    },
    /// Given more than once.
    #[error("{module}: option {name}: expected once, found {first:?} and {second:?}")]
    Repeated {
        /// The module.
        module: String,
        /// The name.
        name: String,
        /// The first value.
        first: String,
        /// The second value.
        second: String,
    },
}

impl OptionKind {
    /// From the module's declaration; `None` for a kind that this host does not know.
    pub(crate) fn from_spec(spec: &OptionSpec, choices: &str) -> Option<Self> {
        Some(match spec.kind {
            option_kind::FLAG => Self::Flag,
            option_kind::NUMBER => Self::Number { min: spec.min, max: spec.max },
            option_kind::TEXT => Self::Text,
            option_kind::MAC => Self::Mac,
            option_kind::CHOICE => Self::Choice(choices.split('|').map(str::to_owned).collect()),
            _ => return None,
        })
    }

    /// The value as the module gets it, or `None` when it does not fit.
    fn accept(&self, value: Option<&str>) -> Option<String> {
        match (self, value) {
            (Self::Flag, None) => Some("1".to_owned()),
            (Self::Flag, Some(value)) => matches!(value, "0" | "1").then(|| value.to_owned()),
            (Self::Number { min, max }, Some(value)) => {
                let number = number(value)?;
                (*min..=*max).contains(&number).then(|| value.to_owned())
            }
            (Self::Text, Some(value)) => (!value.is_empty()).then(|| value.to_owned()),
            (Self::Mac, Some(value)) => mac(value),
            (Self::Choice(words), Some(value)) => {
                words.iter().any(|word| word == value).then(|| value.to_owned())
            }
            (_, None) => None,
        }
    }
}

/// What a value may be, for error messages.
impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => write!(f, "the bare word, or 0 or 1"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Text => write!(f, "a text that is not empty"),
            Self::Mac => write!(f, "a station's Ethernet address (12 hexadecimal digits)"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

/// Name and shape of the value: `mtu=N`, `promiscuous`, `offload=off|keep`.
impl fmt::Display for OptionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.kind {
            OptionKind::Flag => write!(f, "{name}"),
            OptionKind::Number { .. } => write!(f, "{name}=N"),
            OptionKind::Text => write!(f, "{name}=TEXT"),
            OptionKind::Mac => write!(f, "{name}=MAC"),
            OptionKind::Choice(words) => write!(f, "{name}={}", words.join("|")),
        }
    }
}

/// Splits `a,b=1,c` into options. Empty parts are skipped; a value may contain `=`.
#[must_use]
pub fn parse(text: &str) -> Vec<Given> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once('=') {
            Some((name, value)) => Given { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Given { name: part.to_owned(), value: None },
        })
        .collect()
}

/// The options that every driver understands. `lan`, `uptype` and `verbose` stay with the daemon.
#[must_use]
pub fn generic() -> Vec<OptionInfo> {
    let make = |name: &str, help: &str, kind| OptionInfo {
        name: name.to_owned(),
        help: help.to_owned(),
        kind,
        repeats: false,
    };
    vec![
        make("mac", "Ethernet address to use instead of the device's own", OptionKind::Mac),
        make("mtu", "largest frame in bytes, its 14-byte header included (default 1514)", MTU),
        make("promiscuous", "receive every frame", OptionKind::Flag),
        make("nomulticast", "receive no multicast frames", OptionKind::Flag),
        make("verbose", "more log lines", OptionKind::Number { min: 0, max: 10 }),
        make(
            "lan",
            "number of the interface (default: the lowest free one)",
            OptionKind::Number { min: 0, max: 9999 },
        ),
        make("uptype", "prefix of the interface's name (default en)", OptionKind::Text),
    ]
}

/// Checks the options of a driver against its own and the generic ones; its own win.
///
/// # Errors
/// [`OptionError`].
pub fn accept_driver(module: &str, own: &[OptionInfo], given: &[Given]) -> Result<Accepted, OptionError> {
    let mut known = own.to_vec();
    known.extend(generic().into_iter().filter(|option| own.iter().all(|theirs| theirs.name != option.name)));
    let checked = check(module, &known, given)?;
    let mut accepted = Accepted::default();
    for (name, value) in checked {
        if own.iter().any(|option| option.name == name) {
            accepted.pass.push((name, value));
            continue;
        }
        match name.as_str() {
            "verbose" => accepted.verbose = number(&value),
            "lan" => accepted.lan = number(&value).and_then(|number| u32::try_from(number).ok()),
            "uptype" => accepted.uptype = Some(prefix(module, value)?),
            _ => accepted.pass.push((name, value)),
        }
    }
    Ok(accepted)
}

/// Checks the options of a protocol.
///
/// # Errors
/// [`OptionError`].
pub fn accept_protocol(module: &str, own: &[OptionInfo], given: &[Given]) -> Result<Accepted, OptionError> {
    Ok(Accepted { pass: check(module, own, given)?, ..Accepted::default() })
}

fn check(module: &str, known: &[OptionInfo], given: &[Given]) -> Result<Vec<(String, String)>, OptionError> {
    let mut checked: Vec<(String, String)> = Vec::with_capacity(given.len());
    for option in given {
        let Some(info) = known.iter().find(|info| info.name == option.name) else {
            return Err(OptionError::Unknown {
                module: module.to_owned(),
                name: option.name.clone(),
                known: known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            });
        };
        // QNX: a bare `verbose` is the first level.
        let bare = (info.name == "verbose").then_some("1");
        let value = info.kind.accept(option.value.as_deref().or(bare)).ok_or_else(|| OptionError::Value {
            module: module.to_owned(),
            name: option.name.clone(),
            accepted: info.kind.to_string(),
            found: option.value.as_ref().map_or("nothing".to_owned(), |value| format!("{value:?}")),
        })?;
        match checked.iter().find(|(name, _)| *name == option.name) {
            Some((_, first)) if !info.repeats => {
                return Err(OptionError::Repeated {
                    module: module.to_owned(),
                    name: option.name.clone(),
                    first: first.clone(),
                    second: value,
                });
            }
            _ => checked.push((option.name.clone(), value)),
        }
    }
    Ok(checked)
}

/// The prefix becomes part of a file name.
fn prefix(module: &str, value: String) -> Result<String, OptionError> {
    if (1..=8).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Ok(value);
    }
    Err(OptionError::Value {
        module: module.to_owned(),
        name: "uptype".to_owned(),
        accepted: "1 to 8 lower-case letters".to_owned(),
        found: format!("{value:?}"),
    })
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    // `from_str_radix` also takes a sign.
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Twelve lower-case digits, when `text` is the address of one station.
fn mac(text: &str) -> Option<String> {
    let digits: String = match text.len() {
        12 => text.to_owned(),
        17 => {
            let mark = char::from(text.as_bytes()[2]);
            let octets: Vec<&str> = text.split(mark).collect();
            if !matches!(mark, ':' | '-') || octets.len() != 6 || octets.iter().any(|octet| octet.len() != 2)
            {
                return None;
            }
            octets.concat()
        }
        _ => return None,
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let first = u8::from_str_radix(&digits[..2], 16).ok()?;
    (first & 1 == 0 && digits.bytes().any(|digit| digit != b'0')).then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
