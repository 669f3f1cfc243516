//! Names and numbers, without a kernel.

use super::*;

fn directory(ino: u64) -> Kind {
    Kind::File(FileId { device: (8, 1), ino, file_type: libc::S_IFDIR, born: (0, 0) })
}

fn file(ino: u64) -> Kind {
    Kind::File(FileId { device: (8, 1), ino, file_type: libc::S_IFREG, born: (0, 0) })
}

#[test]
fn a_name_keeps_its_number_while_it_means_the_same_file() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    let first = inodes.intern(node, b"etc", file(1)).unwrap();
    assert_eq!(inodes.intern(node, b"etc", file(1)), Some(first));
    let second = inodes.intern(node, b"etc", file(2)).unwrap();
    assert_ne!(first, second);
    assert_eq!(inodes.intern(node, b"etc", file(2)), Some(second));
    assert!(matches!(inodes.get(first).unwrap().kind(), kind if kind == file(1)));
}

#[test]
fn a_location_is_the_node_and_the_path_on_it() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    let etc = inodes.intern(node, b"etc", directory(1)).unwrap();
    let name = inodes.intern(etc, b"hostname", file(2)).unwrap();
    assert_eq!(
        inodes.location(name),
        Some(Location { node, path: b"etc/hostname".to_vec(), guard: filesys::guard((8, 1), 1) })
    );
    assert_eq!(inodes.location(node), Some(Location { node, path: vec![], guard: 0 }));
    assert_eq!(inodes.location(etc).unwrap().guard, 0, "the node's root is where it is");
    assert_eq!(inodes.location_in(etc, b"hostname"), inodes.location(name));
    assert_eq!(inodes.location(ROOT_ID), None);
    assert_eq!(inodes.location(999), None);
}

#[test]
fn forgetting_everything_in_any_order_leaves_the_root_alone() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    let etc = inodes.intern(node, b"etc", directory(1)).unwrap();
    let old = inodes.intern(etc, b"hostname", file(2)).unwrap();
    let new = inodes.intern(etc, b"hostname", file(3)).unwrap();
    inodes.intern(etc, b"hostname", file(3)).unwrap();
    inodes.forget(node, 1);
    inodes.forget(etc, 1);
    assert_eq!(inodes.len(), 5, "those with others below them stay");
    inodes.forget(new, 1);
    assert_eq!(inodes.len(), 5, "one of two references is left");
    inodes.forget(new, 1);
    inodes.forget(old, 1);
    assert_eq!(inodes.len(), 1);
}

#[test]
fn forgetting_too_much_or_the_root_does_no_harm() {
    let mut inodes = Inodes::default();
    inodes.forget(ROOT_ID, u64::MAX);
    inodes.forget(77, 1);
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    inodes.forget(node, u64::MAX);
    assert_eq!(inodes.len(), 1);
    assert_ne!(inodes.intern(ROOT_ID, b"joseph", Kind::Node), Some(node), "numbers are never used again");
}

#[test]
fn a_nodes_number_is_valid_within_one_life_of_the_link() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    inodes.set_nd(node, Some((1, 4)));
    assert_eq!(inodes.nd(node, 1), Some(4));
    assert_eq!(inodes.nd(node, 2), None);
    inodes.set_nd(node, None);
    assert_eq!(inodes.nd(node, 1), None);
}

#[test]
fn a_file_has_one_number_under_all_its_names() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    let one = inodes.intern(node, b"one", file(1)).unwrap();
    assert_eq!(inodes.intern(node, b"two", file(1)), Some(one));
    assert_eq!(inodes.location(one).unwrap().path, b"two", "by the name that was seen last");
    inodes.intern(node, b"one", file(1));
    assert_eq!(inodes.location(one).unwrap().path, b"one");
    inodes.remove_name(node, b"one");
    assert_eq!(inodes.location(one).unwrap().path, b"two");
    let other = inodes.intern(ROOT_ID, b"karl", Kind::Node).unwrap();
    assert_ne!(inodes.intern(other, b"one", file(1)), Some(one), "another node's file is another one");
    let first = inodes.intern(node, b"d", directory(5)).unwrap();
    assert_ne!(inodes.intern(node, b"e", directory(5)), Some(first), "directories have one name");
}

#[test]
fn a_file_without_a_name_is_nowhere_and_stays_known() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    let one = inodes.intern(node, b"one", file(1)).unwrap();
    inodes.remove_name(node, b"one");
    inodes.remove_name(node, b"one");
    assert_eq!(inodes.location(one), None);
    assert_eq!(inodes.get(one).unwrap().node(), node);
    inodes.forget(one, 1);
    inodes.forget(node, 1);
    assert_eq!(inodes.len(), 1);
}

#[test]
fn what_lies_in_a_renamed_directory_moves_along() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    let a = inodes.intern(node, b"a", directory(1)).unwrap();
    let b = inodes.intern(node, b"b", directory(2)).unwrap();
    let f = inodes.intern(a, b"f", file(3)).unwrap();
    let g = inodes.intern(b, b"g", file(4)).unwrap();
    inodes.rename((node, b"a"), (b, b"g"));
    assert_eq!(inodes.location(f).unwrap().path, b"b/g/f");
    assert_eq!(inodes.location(g), None, "it was replaced");
    inodes.rename((node, b"unknown"), (b, b"g"));
    assert_eq!(inodes.location(f), None, "replaced by something that nobody has looked up");
    for (id, count) in [(f, 1), (g, 1), (a, 1), (b, 1), (node, 1)] {
        inodes.forget(id, count);
    }
    assert_eq!(inodes.len(), 1);
}

#[test]
fn names_change_places() {
    let mut inodes = Inodes::default();
    let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
    let a = inodes.intern(node, b"a", directory(1)).unwrap();
    let f = inodes.intern(a, b"f", file(3)).unwrap();
    let g = inodes.intern(node, b"g", file(4)).unwrap();
    inodes.exchange((a, b"f"), (node, b"g"));
    assert_eq!(inodes.location(f).unwrap().path, b"g");
    assert_eq!(inodes.location(g).unwrap().path, b"a/f");
    inodes.exchange((a, b"f"), (node, b"unknown"));
    assert_eq!(inodes.location(g).unwrap().path, b"unknown");
    assert_eq!(inodes.child((a, b"f")), None);
    for id in [f, g, a, node] {
        inodes.forget(id, 1);
    }
    assert_eq!(inodes.len(), 1);
}
