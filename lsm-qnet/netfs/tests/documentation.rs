//! `docs/net.md` against the code: the numbers it quotes are right.

use qnet_netfs::{caller, fuse};

const DOCUMENT: &str = include_str!("../../../docs/net.md");
#[test]
fn the_numbers_that_the_document_quotes_are_those_of_the_code() {
    assert!(DOCUMENT.contains("at most 256 supplementary groups"));
    assert_eq!(caller::MAX_GROUPS, 256);
    assert!(DOCUMENT.contains("requests of up to 1 MiB"));
    assert_eq!(fuse::MAX_TRANSFER, 1 << 20);
    assert!(DOCUMENT.contains("values of up to 65,536 bytes"));
    assert_eq!(qnet_iomsg::filesys::xattr::VALUE_MAX, 65_536);
}
