//! The guard of a directory: a digest by which a request says in which directory it believes to be.
//!
//! Paths are names, and another node may have renamed a directory meanwhile: `rm` in a working directory that was moved
//! would meet the file of the same name in the directory that is there now. A request with a guard is refused with ESTALE,
//! before anything is done, when the directory that holds its last name is not the one meant.

/// The guard of a directory by its device and inode number, as [`crate::Stat`] has them; never 0.
#[must_use]
pub fn guard(dev: (u32, u32), ino: u64) -> u32 {
    // a multiplicative hash: every bit of the input reaches the upper half
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let device = u64::from(dev.0) << 32 | u64::from(dev.1);
    let mixed = (ino.wrapping_mul(MIX) ^ device.rotate_left(17)).wrapping_mul(MIX);
    let digest = (mixed >> 32) as u32;
    digest.max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbours_have_guards_of_their_own() {
        let guards: HashSet<u32> =
            (0..1000).flat_map(|ino| [guard((8, 1), ino), guard((8, 2), ino), guard((0, 40), ino)]).collect();
        assert_eq!(guards.len(), 3000);
        assert!(!guards.contains(&0));
        assert_ne!(guard((0, 0), 0), 0);
    }
}
