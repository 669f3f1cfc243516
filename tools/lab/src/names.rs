//! Names of the lab's nodes, in the order in which they are given out.

/// QNX's own documents speak of such people; a lab rarely needs more of them.
pub const NAMES: [&str; 16] = [
    "alonzo", "joseph", "eileen", "karl", "kenneth", "wanda", "yolanda", "zoe", "ruth", "george", "peter",
    "magenta", "nancy", "oscar", "quentin", "sybil",
];

/// The name of node number `number`, counted from 1. Past the list they are numbered.
#[must_use]
pub fn name_of(number: usize) -> String {
    match NAMES.get(number.wrapping_sub(1)) {
        Some(name) => (*name).to_owned(),
        None => format!("node{number}"),
    }
}

/// May a node bear this name? It becomes a host name, a folder and a switch port.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name != "switch0"
        && name != "lo"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_are_alonzo_and_joseph() {
        assert_eq!((name_of(1).as_str(), name_of(2).as_str()), ("alonzo", "joseph"));
        assert_eq!(name_of(17), "node17");
    }

    #[test]
    fn every_name_is_valid_and_unlike_the_others() {
        let mut names = NAMES.to_vec();
        assert!(names.iter().all(|name| is_valid(name)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }

    #[test]
    fn a_name_that_cannot_be_a_folder_is_refused() {
        for name in ["", "a/b", "..", "A", "-x", "switch0", "a-name-that-is-long"] {
            assert!(!is_valid(name), "{name}");
        }
    }
}
