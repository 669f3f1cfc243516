//! Where a symbolic link of a node leads.
//!
//! A link means a file of the node it lies on. An absolute target would be looked for on *this* node, and a relative one
//! with many `..` would climb out of `/net/NODE` into it, while over there `..` of the root is the root. Both are
//! rewritten to a path below `/net/NODE`; other relative targets stay as they are.

/// The path on the node, with a leading slash, that a link at `path` (relative to the node's root) leads to, if its target
/// would leave `/net/NODE`. `None` for a target that stays inside by itself.
pub(super) fn leaving(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let absolute = target.starts_with(b"/");
    let mut at: Vec<&[u8]> = if absolute { Vec::new() } else { components(path).collect() };
    // The link's own name is replaced by its target.
    at.pop();
    let mut leaves = false;
    for component in components(target) {
        match component {
            b"." => {}
            b".." => leaves |= at.pop().is_none(),
            name => at.push(name),
        }
    }
    if leaves {
        return Some([&b"/"[..], &at.join(&b'/')].concat());
    }
    absolute.then(|| target.to_vec())
}

/// The target, as the node is to have it, of a link that is made: what reading puts in front of a target is
/// taken away again. `is_node` says which names in the network directory are the node's.
pub(super) fn stripped<'a>(target: &'a [u8], mount: &[u8], is_node: impl Fn(&[u8]) -> bool) -> &'a [u8] {
    let Some(below) = target.strip_prefix(mount).and_then(|rest| rest.strip_prefix(b"/")) else {
        return target;
    };
    let end = below.iter().position(|byte| *byte == b'/').unwrap_or(below.len());
    let (name, rest) = below.split_at(end);
    match rest {
        _ if !is_node(name) => target,
        b"" => b"/",
        rest => rest,
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn leads(path: &str, target: &str, expected: Option<&str>) {
        let found = leaving(path.as_bytes(), target.as_bytes());
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{path} -> {target}");
    }

    #[test]
    fn absolute_targets_leave() {
        leads("etc/localtime", "/usr/share/zoneinfo/UTC", Some("/usr/share/zoneinfo/UTC"));
        leads("x", "/", Some("/"));
        leads("x", "/usr/../etc//x", Some("/usr/../etc//x"));
    }

    #[test]
    fn relative_targets_inside_the_node_stay() {
        for target in ["file", "../b", "../../c", "./d//e", "..", "../..", "d/../../.."] {
            leads("a/b/link", target, None);
        }
    }

    #[test]
    fn what_reading_puts_in_front_making_takes_away() {
        let is_node = |name: &[u8]| name == b"joseph";
        for (made, kept) in [
            ("/net/joseph/etc/x", "/etc/x"),
            ("/net/joseph/", "/"),
            ("/net/joseph", "/"),
            ("/net/karl/etc/x", "/net/karl/etc/x"),
            ("/net/josephine/x", "/net/josephine/x"),
            ("/net", "/net"),
            ("/network/joseph", "/network/joseph"),
            ("/etc/x", "/etc/x"),
            ("../x", "../x"),
        ] {
            assert_eq!(stripped(made.as_bytes(), b"/net", is_node), kept.as_bytes(), "{made}");
        }
    }

    #[test]
    fn climbing_above_the_nodes_root_ends_at_its_root() {
        leads("a/b/link", "../../../etc/passwd", Some("/etc/passwd"));
        leads("link", "..", Some("/"));
        leads("link", "d/../../../x/./y", Some("/x/y"));
        leads("a/link", "../../../../..", Some("/"));
        leads("a/link", "/../etc", Some("/etc"));
        leads("a/link", "/usr/../../joseph", Some("/joseph"));
    }
}
