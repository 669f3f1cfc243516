//! Two namespaces with veth pairs between them, made for one run and gone with it.

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    part::Part,
    space::{self, Space},
};

/// A veth pair, by the first letter of its ends (`q0` in `a`, `q1` in `b`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// For frames: without addresses.
    Bare(&'static str),
    /// With an address at each end.
    Addressed(&'static str),
    /// The same, with all offloads off: frames of the real size cross it.
    Plain(&'static str),
}

impl Pair {
    const fn letter(self) -> &'static str {
        match self {
            Self::Bare(letter) | Self::Addressed(letter) | Self::Plain(letter) => letter,
        }
    }
}

/// The namespaces.
#[derive(Debug)]
pub struct Rig {
    a: Space,
    b: Space,
    pairs: Vec<Pair>,
}

impl Rig {
    /// Builds both for a benchmark of that name, with pairs of that MTU.
    ///
    /// # Errors
    /// Without root, or when `ip` or `ethtool` is missing or fails.
    pub fn new(name: &str, mtu: u32, pairs: &[Pair]) -> Result<Self> {
        let rig = Self { a: Space::new(name)?, b: Space::new(name)?, pairs: pairs.to_vec() };
        for (index, pair) in pairs.iter().enumerate() {
            rig.lay(index, *pair, mtu)?;
        }
        Ok(rig)
    }

    fn lay(&self, index: usize, pair: Pair, mtu: u32) -> Result<()> {
        let ends = Self::ends(pair.letter());
        space::wire((&self.a, &ends[0]), (&self.b, &ends[1]), mtu)?;
        for ((space, interface), end) in [&self.a, &self.b].into_iter().zip(&ends).zip(1..) {
            if let Pair::Addressed(_) | Pair::Plain(_) = pair {
                let address = format!("10.98.{index}.{end}/24");
                space.run("ip", &["addr", "add", &address, "dev", interface])?;
            }
            if let Pair::Plain(_) = pair {
                let off = ["tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off"];
                space.run("ethtool", &[&["-K", interface], off.as_slice()].concat())?;
            }
        }
        Ok(())
    }

    /// Limits both ends of a pair to `rate` (as `tc` writes it), with room for 20 ms.
    ///
    /// # Errors
    /// `tc` is missing or refuses.
    pub fn limit(&self, letter: &str, rate: &str) -> Result<()> {
        for (space, device) in [&self.a, &self.b].into_iter().zip(&Self::ends(letter)) {
            let tbf = ["root", "tbf", "rate", rate, "burst", "64kb", "latency", "20ms"];
            space.run("tc", &[&["qdisc", "add", "dev", device], tbf.as_slice()].concat())?;
        }
        Ok(())
    }

    /// Address of the far end of a pair.
    ///
    /// # Errors
    /// The pair has none.
    pub fn address(&self, letter: &str) -> Result<String> {
        let of = |pair: &Pair| pair.letter() == letter && !matches!(pair, Pair::Bare(_));
        let index =
            self.pairs.iter().position(of).with_context(|| format!("pair {letter} has no address"))?;
        Ok(format!("10.98.{index}.2"))
    }

    /// Ethernet address of an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn mac(&self, side: &str, interface: &str) -> Result<String> {
        space::mac(self.space(side)?, interface)
    }

    /// Starts this program again in a namespace to play a part. What it says on standard error is kept for
    /// [`Rig::log`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn play(&self, side: &str, cpu: Option<usize>, words: &[&str]) -> Result<Part> {
        self.play_with(side, cpu, words, &[])
    }

    /// The same with some variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn play_with(
        &self,
        side: &str,
        cpu: Option<usize>,
        words: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Part> {
        self.space(side)?.play_with(cpu, words, environment)
    }

    /// A new directory for the files of a part. It goes away with the namespace at the latest.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, side: &str) -> Result<TempDir> {
        self.space(side)?.directory()
    }

    /// What the parts of a namespace said on standard error.
    #[must_use]
    pub fn log(&self, side: &str) -> String {
        self.space(side).map(Space::log).unwrap_or_default()
    }

    fn space(&self, side: &str) -> Result<&Space> {
        match side {
            "a" => Ok(&self.a),
            "b" => Ok(&self.b),
            _ => anyhow::bail!("no namespace {side}"),
        }
    }

    fn ends(letter: &str) -> [String; 2] {
        [format!("{letter}0"), format!("{letter}1")]
    }
}
