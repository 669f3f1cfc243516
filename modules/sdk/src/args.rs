//! What a module is told when a use of it is made.

use io_pkt_abi::{CreateArgs, OptionValue};

use crate::{Mac, raw};

/// Bytes of an Ethernet header, which QNX's `mtu=` counts and Linux's does not.
const ETHERNET_HEADER: u32 = 14;

/// Name, folders and options of a new use. Borrowed: lives as long as `create` runs.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    raw: &'a CreateArgs,
    options: &'a [OptionValue],
}

/// The options that every driver understands; see [`Args::generic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generic {
    /// `mac=`: address to use instead of the device's own.
    pub mac: Option<Mac>,
    /// `mtu=`, turned into the largest payload in bytes: the option counts the 14 bytes of the header as QNX does.
    pub mtu: Option<u32>,
    /// `promiscuous`: receive every frame.
    pub promiscuous: bool,
    /// False with `nomulticast`.
    pub multicast: bool,
}

impl<'a> Args<'a> {
    /// # Safety
    /// `raw` and everything it points to are valid during `'a`, as the ABI promises for `create`.
    pub(crate) unsafe fn new(raw: &'a CreateArgs) -> Self {
        // SAFETY: by the caller's promise.
        let options = unsafe { raw::elements(raw.options, raw.n_options as usize) };
        Self { raw, options }
    }

    /// Name of this use: `en0` for a driver, `bridge0` or `qnet` for a protocol.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.text_of(self.raw.name)
    }

    /// Number of the io-pkt instance.
    #[must_use]
    pub fn instance(&self) -> u32 {
        self.raw.instance
    }

    /// The node's root directory.
    #[must_use]
    pub fn root(&self) -> &'a str {
        self.text_of(self.raw.root)
    }

    /// Directory where this machine's device names live.
    #[must_use]
    pub fn devices(&self) -> &'a str {
        self.text_of(self.raw.devices)
    }

    /// Network directory to use when no option says otherwise.
    #[must_use]
    pub fn net(&self) -> &'a str {
        self.text_of(self.raw.net)
    }

    /// State handed over by a former use; empty on a fresh start.
    #[must_use]
    pub fn state(&self) -> &'a [u8] {
        // SAFETY: valid during `create`, which `'a` does not outlive.
        unsafe { raw::slice(self.raw.state) }
    }

    /// All options as given, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let this = *self;
        self.options.iter().map(move |option| (this.text_of(option.name), this.text_of(option.value)))
    }

    /// Whether the flag is set. A repeated option counts with its last value, here and below.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// The number, decimal or `0x`; the host has checked its limits.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// The text or the chosen word.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.texts(name).last()
    }

    /// Every value of an option that may be given more than once.
    pub fn texts<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value)
    }

    /// The Ethernet address.
    #[must_use]
    pub fn mac(&self, name: &str) -> Option<Mac> {
        self.text(name)?.parse().ok()
    }

    /// The options that every driver understands without declaring them.
    #[must_use]
    pub fn generic(&self) -> Generic {
        let frame = self.number("mtu").and_then(|bytes| u32::try_from(bytes).ok());
        Generic {
            mac: self.mac("mac"),
            mtu: frame.map(|bytes| bytes.saturating_sub(ETHERNET_HEADER)),
            promiscuous: self.flag("promiscuous"),
            multicast: !self.flag("nomulticast"),
        }
    }

    fn text_of(&self, bytes: io_pkt_abi::Bytes) -> &'a str {
        // SAFETY: valid during `create`, which `'a` does not outlive.
        unsafe { raw::text(bytes) }
    }
}
