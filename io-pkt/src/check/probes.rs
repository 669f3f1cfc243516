//! The things that `--check` looks at. Each is tried for real where that changes nothing.
//!
//! A probe opens, makes and drops again; none of them sets up or writes anything, and what is mounted is seen by one
//! thread only. The last one moves this process into a user namespace, which is why it is the last.

use std::{
    fs,
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

use ctl::Root;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
    },
    unistd::Uid,
};

use super::Finding;

const FUSE: &str = "/dev/fuse";
const HELPERS: [&str; 3] = ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"];

/// All findings, in the order in which a new user meets them.
pub(super) fn all(root: Option<&Path>) -> Vec<Finding> {
    let mut findings =
        vec![raw_sockets(), tap(), fuse(Path::new(FUSE)), network_directory(root), memfds(), host_name()];
    findings.extend(interfaces());
    // Last: on success this process is in a namespace of its own.
    findings.push(namespaces());
    findings
}

fn raw_sockets() -> Finding {
    const SUBJECT: &str = "raw sockets";
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>);
    match opened {
        Ok(_) => Finding::ok(SUBJECT, "an AF_PACKET socket can be opened (-d packet)"),
        Err(errno) => Finding::no(
            SUBJECT,
            format!("AF_PACKET: {}", errno.desc()),
            "run as root, or setcap cap_net_raw,cap_net_admin+ep io-pkt, or use -d segment",
        ),
    }
}

fn tap() -> Finding {
    const SUBJECT: &str = "TAP";
    match fs::File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::ok(SUBJECT, "/dev/net/tun can be opened (-d tap)"),
        Err(cause) => Finding::note(
            SUBJECT,
            format!("/dev/net/tun: {}", plain(&cause)),
            match cause.kind() {
                io::ErrorKind::PermissionDenied => {
                    "run as root, or let an administrator permit it; only -d tap needs it"
                }
                _ => "modprobe tun (in a container: give it /dev/net/tun); only -d tap needs it",
            },
        ),
    }
}

fn fuse(path: &Path) -> Finding {
    const SUBJECT: &str = "FUSE";
    let shown = path.display();
    let cure =
        "modprobe fuse (in a container: give it /dev/fuse); without it Qnet runs, but there is no /net";
    let mut device = match fs::File::options().read(true).write(true).open(path) {
        Ok(device) => device,
        Err(cause) => {
            let cure = match cause.kind() {
                io::ErrorKind::PermissionDenied => {
                    "as root: chmod 666 /dev/fuse; without it Qnet runs, but there is no /net"
                }
                _ => cure,
            };
            return Finding::no(SUBJECT, format!("{shown}: {}", plain(&cause)), cure);
        }
    };
    // A FUSE device that is not mounted yet answers a read with EPERM. Anything else is not that device.
    match device.read(&mut [0; 1]).map_err(|cause| cause.raw_os_error()) {
        Err(Some(libc::EPERM)) => {}
        _ => return Finding::no(SUBJECT, format!("{shown} is not the FUSE device"), cure),
    }
    if Uid::effective().is_root() {
        return match try_mount(device) {
            Ok(()) => Finding::ok(SUBJECT, "a FUSE file system can be mounted (/net)"),
            Err(errno) => Finding::no(
                SUBJECT,
                format!("mounting a FUSE file system: {}", errno.desc()),
                "give the container CAP_SYS_ADMIN; without it Qnet runs, but there is no /net",
            ),
        };
    }
    match HELPERS.iter().find_map(|path| fs::metadata(path).ok()) {
        Some(helper) if helper.mode() & libc::S_ISUID != 0 && helper.uid() == 0 => {
            Finding::ok(SUBJECT, "/dev/fuse can be opened, and fusermount3 mounts for this user (/net)")
        }
        Some(_) => Finding::no(
            SUBJECT,
            "fusermount3 is not set-user-id root, so it cannot mount for this user",
            "chmod u+s the file fusermount3 as root, or run as root",
        ),
        None => Finding::no(
            SUBJECT,
            "fusermount3 is missing, which mounts for users other than root",
            "apt install fuse3",
        ),
    }
}

/// Mounts that device in a mount namespace that only a thread sees, and that goes with the thread.
fn try_mount(device: fs::File) -> Result<(), Errno> {
    let attempt = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("check"), "/", Some("fuse.qnet"), MsFlags::MS_NOSUID, Some(options.as_str()))
    };
    // A panic in there could only be ours.
    let result = std::thread::spawn(attempt).join().unwrap_or(Err(Errno::EIO));
    until_alone();
    result
}

/// A thread that was joined is still there while its mount namespace is taken down, and as long as it is, the kernel
/// refuses this process a user namespace (EINVAL), which is another probe.
fn until_alone() {
    let deadline = Instant::now() + Duration::from_secs(1);
    while fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) && Instant::now() < deadline {
        std::thread::yield_now();
    }
}

fn network_directory(root: Option<&Path>) -> Finding {
    const SUBJECT: &str = "network directory";
    let net = match Root::given(root).or_else(|| Root::candidates().into_iter().next()) {
        Some(root) => root.net(),
        None => return Finding::no(SUBJECT, "no root directory is possible", "give one with --root"),
    };
    let shown = net.display();
    if let Some((kind, source)) = mount_at(&net) {
        if kind == "fuse.qnet" {
            return Finding::ok(SUBJECT, format!("{shown} is a Qnet mount already"));
        }
        let owner = if kind == "autofs" {
            "the automounter (autofs)".to_owned()
        } else {
            format!("{kind} ({source})")
        };
        return Finding::no(
            SUBJECT,
            format!("{shown} belongs to {owner}"),
            "-p qnet mount=/qnet, or take the map out of /etc/auto.master",
        );
    }
    match fs::read_dir(&net).map(Iterator::count) {
        Ok(entries) if entries > 0 => Finding::no(
            SUBJECT,
            format!("{shown} is not empty; Qnet does not hide what is in it"),
            "-p qnet mount=/qnet",
        ),
        Ok(_) => Finding::ok(SUBJECT, format!("{shown} is there and empty")),
        Err(_) => match nearest(&net) {
            Some(parent) if nix::unistd::access(&parent, nix::unistd::AccessFlags::W_OK).is_ok() => {
                Finding::ok(SUBJECT, format!("{shown} can be made"))
            }
            _ => Finding::no(
                SUBJECT,
                format!("{shown} cannot be made here"),
                format!("mkdir {shown}, or -p qnet mount=DIR"),
            ),
        },
    }
}

/// The nearest directory above `path` that exists.
fn nearest(path: &Path) -> Option<std::path::PathBuf> {
    path.ancestors().skip(1).find(|dir| dir.is_dir()).map(Path::to_path_buf)
}

/// Type and source of the file system that is mounted exactly at `dir`.
fn mount_at(dir: &Path) -> Option<(String, String)> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    parse_mounts(&table, dir)
}

/// In `/proc/self/mountinfo` field 5 is the mount point; behind ` - ` come type and source. The last line wins.
fn parse_mounts(table: &str, dir: &Path) -> Option<(String, String)> {
    let line = table.lines().rfind(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == dir))?;
    let mut tail = line.split_once(" - ")?.1.split(' ');
    Some((tail.next()?.to_owned(), tail.next().unwrap_or_default().to_owned()))
}

fn memfds() -> Finding {
    const SUBJECT: &str = "executable memfds";
    let exec = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    match memfd_create(c"io-pkt check", MFdFlags::MFD_CLOEXEC | exec) {
        Ok(_) | Err(Errno::EINVAL) => Finding::ok(SUBJECT, "modules are loaded from sealed copies"),
        Err(errno) => Finding::note(
            SUBJECT,
            format!("{}: modules are loaded from their path instead", errno.desc()),
            "sysctl vm.memfd_noexec=0; until then replace a module file with mv, never with cp",
        ),
    }
}

fn host_name() -> Finding {
    const SUBJECT: &str = "host name";
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (node, domain) = name.split_once('.').unwrap_or((&name, ""));
    if node.is_empty() || node.starts_with("localhost") || node == "(none)" {
        return Finding::note(
            SUBJECT,
            format!("{name:?}: this node would be called EA and the last digits of its MAC"),
            "hostnamectl set-hostname NAME, or -p qnet host=NAME",
        );
    }
    let domain = if domain.is_empty() { String::new() } else { format!(", domain {domain}") };
    Finding::ok(SUBJECT, format!("{name}: this is node {node}{domain}"))
}

/// A line for each Ethernet interface.
fn interfaces() -> Vec<Finding> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    // /sys may be another network namespace's.
    let is_here = |entry: &fs::DirEntry| if_nametoindex(entry.file_name().as_os_str()).is_ok();
    let mut dirs: Vec<_> = entries.flatten().filter(is_here).map(|entry| entry.path()).collect();
    dirs.sort();
    let found: Vec<_> = dirs.iter().filter_map(|dir| interface(dir)).collect();
    if found.is_empty() {
        let cure = "-d tap or -d segment need none";
        return vec![Finding::note("interfaces", "no Ethernet interface is here", cure)];
    }
    found
}

fn interface(dir: &Path) -> Option<Finding> {
    const IFF_UP: u32 = 1;
    let read = |file: &str| fs::read_to_string(dir.join(file)).map(|text| text.trim().to_owned());
    // 1 is ARPHRD_ETHER.
    if read("type").ok()? != "1" {
        return None;
    }
    let name = dir.file_name()?.to_string_lossy().into_owned();
    let subject = format!("interface {name}");
    let flags = read("flags").ok()?;
    let up = u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & IFF_UP != 0);
    let finding = if dir.join("wireless").exists() || dir.join("phy80211").exists() {
        let cure =
            "use a wired interface: an access point carries no Qnet frames between stations as they are";
        Finding::note(&subject, "is wireless", cure)
    } else if !up {
        Finding::note(&subject, "is down", format!("ip link set {name} up (-d packet does it when it may)"))
    } else if read("carrier").is_ok_and(|carrier| carrier == "0") {
        Finding::note(&subject, "is up and has no carrier", "plug in the cable, or set its other end up")
    } else {
        Finding::ok(&subject, format!("is up: -d packet dev={name}"))
    };
    Some(finding)
}

fn namespaces() -> Finding {
    const SUBJECT: &str = "user namespaces";
    match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) => Finding::ok(SUBJECT, "a user namespace can be made (qnet-lab without root)"),
        Err(errno) => Finding::note(SUBJECT, format!("unshare: {}", errno.desc()), namespace_cure()),
    }
}

fn namespace_cure() -> String {
    let off = |file: &str, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let sysctl = if off("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else if off("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl kernel.unprivileged_userns_clone=1"
    } else if off("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl user.max_user_namespaces=10000"
    } else {
        "run the lab as root, or outside the container"
    };
    format!("{sysctl}, or qnet-lab --wire segment")
}

fn plain(error: &io::Error) -> String {
    error.to_string().split(" (os error ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_at_a_directory_counts() {
        let table = "\
25 1 0:23 / / rw shared:1 - ext4 /dev/sda1 rw
40 25 0:40 / /net rw shared:2 - autofs systemd-1 rw
41 25 0:41 / /network rw shared:2 - tmpfs tmpfs rw
42 40 0:42 / /net rw,nosuid - fuse.qnet qnet rw";
        let qnet = Some(("fuse.qnet".to_owned(), "qnet".to_owned()));
        assert_eq!(parse_mounts(table, Path::new("/net")), qnet);
        assert_eq!(parse_mounts(table, Path::new("/qnet")), None);
    }

    #[test]
    fn every_finding_is_one_line_with_its_cure() {
        let dir = tempfile::tempdir().unwrap();
        let root = Some(dir.path());
        for finding in
            [raw_sockets(), tap(), fuse(Path::new(FUSE)), network_directory(root), memfds(), host_name()]
        {
            let line = finding.to_string();
            assert_eq!(line.lines().count(), 1, "{line}");
            assert_eq!(line.contains("; cure: "), finding.verdict != crate::check::Verdict::Ok, "{line}");
        }
    }

    #[test]
    fn a_file_that_is_not_the_device_is_no_fuse() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let finding = fuse(file.path());
        assert!(finding.text.ends_with("is not the FUSE device"), "{finding}");
        assert!(fuse(Path::new("/dev/null")).text.ends_with("is not the FUSE device"));
    }

    #[test]
    fn the_network_directory_below_a_root_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let finding = network_directory(Some(dir.path()));
        assert!(finding.text.ends_with("can be made"), "{finding}");
        fs::create_dir(dir.path().join("net")).unwrap();
        fs::write(dir.path().join("net/file"), "").unwrap();
        assert!(network_directory(Some(dir.path())).cure.contains("mount=/qnet"));
    }
}
