//! The cases, by what they are about.

mod content;
mod directories;
mod extended;
mod kinds;
mod locks;
mod names;
mod odd;
mod open;
mod rename;
mod rights;
mod special;
mod times;

use crate::suite::Case;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [
        kinds::CASES,
        open::CASES,
        content::CASES,
        rename::CASES,
        names::CASES,
        directories::CASES,
        rights::CASES,
        times::CASES,
        extended::CASES,
        locks::CASES,
        special::CASES,
        odd::CASES,
    ]
    .concat()
}
