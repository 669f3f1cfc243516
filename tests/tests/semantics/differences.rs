//! Where `/net` does something else than a local file system, and why. docs/net.md tells the same to its readers.
//!
//! The list is exact: a check that differs and is not here fails, and so does one that is here and does not differ.

/// A check (`*` at the end: all that begin so), what `/net` gives, and the reason.
pub(crate) type Difference = (&'static str, &'static str, &'static str);

const SPECIAL: &str =
    "an inode of a special type would open the local device or FIFO: they are shown as files";

pub(crate) const DIFFERENCES: &[Difference] = &[("types: Fifo", "Ok(32768)", SPECIAL)];
