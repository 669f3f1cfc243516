//! Who a caller from another node becomes. The caller is the user who runs the test.

use super::rig::Rig;

/// As whom alonzo's program arrives at joseph's channel, or why it does not.
fn arrives(joseph: &[(&str, &str)]) -> Result<u32, i32> {
    let mut rig = Rig::new(&[], joseph);
    let (at, server) = rig.serve(1);
    let client = rig.send(at, 10);
    match rig.finish(client) {
        Ok(()) => Ok(rig.finish(server)[0]),
        Err(errno) => Err(errno),
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub(super) fn allow() {
    assert_eq!(arrives(&[]), Err(libc::EPERM), "by default nobody may connect");
    assert_eq!(arrives(&[("allow", "connect")]), Ok(65534));
    assert_eq!(arrives(&[("allow", "write:exec")]), Err(libc::EPERM));
}

pub(super) fn mapany() {
    assert_eq!(arrives(&[("mapany", "1234")]), Ok(1234));
    assert_eq!(arrives(&[("mapany", "off")]), Ok(nix::unistd::geteuid().as_raw()));
}

pub(super) fn maproot() {
    // It is for root alone; everybody else stays nobody, who may not connect.
    let expected = if is_root() { Ok(1235) } else { Err(libc::EPERM) };
    assert_eq!(arrives(&[("maproot", "1235")]), expected);
    assert_eq!(arrives(&[("maproot", "1235"), ("mapany", "1234")]), Ok(if is_root() { 1235 } else { 1234 }));
}
