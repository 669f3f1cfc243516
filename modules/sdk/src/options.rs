//! The options that a module understands, declared as data so that the host checks them before `create`.
//!
//! ```
//! use io_pkt_sdk::Opt;
//! const OPTIONS: &[Opt] = &[
//!     Opt::text("dev", "Linux interface to use (required)"),
//!     Opt::number("ring", "frames in the receive ring (default 256)", 64, 4096),
//!     Opt::choice("offload", "what to do with offloads (default off)", "off|keep"),
//! ];
//! ```

use io_pkt_abi::{Bytes, OptionSpec, info::option_kind};

use crate::raw;

/// One option: name, kind, limits and a line of help.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Opt(OptionSpec);

// SAFETY: the pointers in an `Opt` come from `&'static str` only (see the constructors) and are never written through.
unsafe impl Sync for Opt {}
// SAFETY: as above.
unsafe impl Send for Opt {}

impl Opt {
    /// A bare word (`promiscuous`); `name=0` and `name=1` are accepted too. Read with [`crate::Args::flag`].
    #[must_use]
    pub const fn flag(name: &'static str, help: &'static str) -> Self {
        Self::make(name, help, option_kind::FLAG, 0, 1, "")
    }

    /// A decimal or `0x` number from `min` to `max`. Read with [`crate::Args::number`].
    #[must_use]
    pub const fn number(name: &'static str, help: &'static str, min: u64, max: u64) -> Self {
        assert!(min <= max, "an option's smallest number is above its largest");
        Self::make(name, help, option_kind::NUMBER, min, max, "")
    }

    /// Any text that is not empty. Read with [`crate::Args::text`].
    #[must_use]
    pub const fn text(name: &'static str, help: &'static str) -> Self {
        Self::make(name, help, option_kind::TEXT, 0, 0, "")
    }

    /// An Ethernet address. Read with [`crate::Args::mac`].
    #[must_use]
    pub const fn mac(name: &'static str, help: &'static str) -> Self {
        Self::make(name, help, option_kind::MAC, 0, 0, "")
    }

    /// One of the words in `choices`, which are separated by `|`. Read with [`crate::Args::text`].
    #[must_use]
    pub const fn choice(name: &'static str, help: &'static str, choices: &'static str) -> Self {
        assert!(!choices.is_empty(), "a choice without words");
        Self::make(name, help, option_kind::CHOICE, 0, 0, choices)
    }

    /// The same option, allowed more than once. Read with [`crate::Args::texts`].
    #[must_use]
    pub const fn repeated(mut self) -> Self {
        self.0.repeats = 1;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        // SAFETY: made from a `&'static str` by one of the constructors.
        unsafe { raw::text(self.0.name) }
    }

    /// Its line of help.
    #[must_use]
    pub fn help(&self) -> &'static str {
        // SAFETY: as in `name`.
        unsafe { raw::text(self.0.help) }
    }

    /// As it crosses the border.
    #[must_use]
    pub const fn spec(&self) -> &OptionSpec {
        &self.0
    }

    const fn make(
        name: &'static str,
        help: &'static str,
        kind: u32,
        min: u64,
        max: u64,
        choices: &'static str,
    ) -> Self {
        assert!(!name.is_empty(), "an option without a name");
        Self(OptionSpec {
            name: Bytes::from_static(name),
            help: Bytes::from_static(help),
            kind,
            repeats: 0,
            min,
            max,
            choices: Bytes::from_static(choices),
        })
    }
}
