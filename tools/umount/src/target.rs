//! Which use of which io-pkt a path stands for.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ctl::{Client, DeviceFile, Root, Target};

/// For a question that a healthy daemon answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something of io-pkt's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    /// Root directory of its node.
    pub(crate) root: Root,
    /// The io-pkt that has it.
    pub(crate) instance: u32,
    /// Its name there.
    pub(crate) name: String,
}

impl Ours {
    /// What `text` stands for, when that is io-pkt's.
    pub(crate) fn find(text: &str, root: &Root) -> Option<Self> {
        let devices = root.devices();
        let spelled =
            if text.contains('/') { absolute(text).to_string_lossy().into_owned() } else { text.to_owned() };
        let text = spelled.as_str();
        let target = Target::parse(text, &devices);
        // A path elsewhere is not looked at: what is mounted there may hang whoever does.
        let is_name = target.is_path || !text.contains('/');
        let file = if is_name { device_file(&devices.join(target.name)) } else { None };
        match file.map(|file| file.instance) {
            Some(instance) => Some(Self { root: root.clone(), instance, name: target.name.to_owned() }),
            // A path in our directory that does not exist is still ours to complain about.
            None if target.is_path => {
                let (root, instance) = (root.clone(), first_instance(root));
                Some(Self { root, instance, name: target.name.to_owned() })
            }
            None if is_name_of_qnet(text) => network(root),
            None if is_network_directory(text, root) => {
                // Any node of this machine may have made the mount, whatever root we were given.
                network(&root_of_mount(&absolute(text), Path::new("/proc")).unwrap_or_else(|| root.clone()))
            }
            None => behind_linux_name(text, root),
        }
    }
}

fn device_file(path: &Path) -> Option<DeviceFile> {
    fs::read_to_string(path).ok()?.parse().ok()
}

/// The use behind a Linux interface (`eth1`). A folder of that name is something else.
fn behind_linux_name(text: &str, root: &Root) -> Option<Ours> {
    let devices = root.devices();
    if text.contains('/') || Path::new(text).exists() {
        return None;
    }
    fs::read_dir(&devices).ok()?.filter_map(Result::ok).find_map(|entry| {
        let file = device_file(&entry.path()).filter(|file| file.device == text)?;
        let name = entry.file_name().into_string().ok()?;
        Some(Ours { root: root.clone(), instance: file.instance, name })
    })
}

fn first_instance(root: &Root) -> u32 {
    root.instances().first().map_or(0, |instance| instance.number)
}

/// The bare name is also the source of the mount at `/net`, by which the system's umount would take that away.
fn is_name_of_qnet(text: &str) -> bool {
    ["qnet", "lsm-qnet", "lsm-qnet.so"].contains(&text) && !Path::new(text).exists()
}

fn is_network_directory(text: &str, root: &Root) -> bool {
    let path = absolute(text);
    path == root.net()
        || is_qnet_mount(&path, &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The path from the root on, without `.` and `..`. Only the words are looked at: asking the system could hang.
fn absolute(text: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in std::path::absolute(text).unwrap_or_else(|_| text.into()).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path
}

/// Is `path` where a file system of type `fuse.qnet` is mounted?
fn is_qnet_mount(path: &Path, mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let Some((place, kind)) = line.split_once(" - ") else { return false };
        let at = place.split(' ').nth(4).unwrap_or_default();
        kind.starts_with("fuse.qnet ") && Path::new(at) == path
    })
}

/// The root of the node whose `qnet-netfs` serves the mount at `path`: its command line names both.
fn root_of_mount(path: &Path, processes: &Path) -> Option<Root> {
    fs::read_dir(processes).ok()?.filter_map(Result::ok).find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&OsStr> = line.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
        let is_server = Path::new(words.first()?).file_name()? == "qnet-netfs";
        let value = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).map(Path::new);
        (is_server && value("--mount")? == path).then(|| value("--root").map(Root::at)).flatten()
    })
}

/// The instance that carries Qnet. When none does, the mount is a leftover and the system's umount removes it.
fn network(root: &Root) -> Option<Ours> {
    root.instances().iter().find_map(|instance| {
        let modules = Client::connect(&instance.socket, PATIENCE).ok()?.modules().ok()?;
        let mut uses = modules.builds.iter().flat_map(|build| &build.uses);
        let qnet = uses.find(|one| one.module == "lsm-qnet")?;
        Some(Ours { root: root.clone(), instance: instance.number, name: qnet.name.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(name: &str, line: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a folder");
        let root = Root::at(dir.path());
        fs::create_dir_all(root.devices()).expect("dev/io-net");
        fs::write(root.devices().join(name), line).expect("a device file");
        (dir, root)
    }

    #[test]
    fn the_device_file_tells_the_instance() {
        let (_dir, root) =
            root_with("en1", "instance=1 pid=7 driver=devn-tap mac=02:00:00:00:00:01 device=tap0\n");
        let expected = Some(Ours { root: root.clone(), instance: 1, name: "en1".to_owned() });
        assert_eq!(Ours::find("en1", &root), expected);
        assert_eq!(Ours::find("/dev/io-net/en1", &root), expected);
        assert_eq!(Ours::find(&root.devices().join("en1").to_string_lossy(), &root), expected);
    }

    #[test]
    fn the_linux_name_stands_for_its_interface() {
        let (_dir, root) =
            root_with("en1", "instance=1 pid=7 driver=devn-packet mac=02:00:00:00:00:01 device=eth1\n");
        let expected = Some(Ours { root: root.clone(), instance: 1, name: "en1".to_owned() });
        assert_eq!(Ours::find("eth1", &root), expected);
        assert_eq!(Ours::find("eth2", &root), None);
    }

    #[test]
    fn other_paths_are_not_ours() {
        let (_dir, root) =
            root_with("en0", "instance=0 pid=7 driver=devn-tap mac=02:00:00:00:00:01 device=tap0\n");
        for path in ["/mnt", "en7", "/dev/sda1", "."] {
            assert_eq!(Ours::find(path, &root), None, "{path}");
        }
    }

    #[test]
    fn a_device_that_is_gone_is_still_ours_to_complain_about() {
        let (_dir, root) =
            root_with("en0", "instance=0 pid=7 driver=devn-tap mac=02:00:00:00:00:01 device=tap0\n");
        let expected = Some(Ours { root: root.clone(), instance: 0, name: "en9".to_owned() });
        assert_eq!(Ours::find("/dev/io-net/en9", &root), expected);
    }

    #[test]
    fn every_spelling_of_a_path_means_the_same() {
        let (_dir, root) =
            root_with("en1", "instance=1 pid=7 driver=devn-tap mac=02:00:00:00:00:01 device=tap0\n");
        let here = std::env::current_dir().expect("a folder");
        let up = "../".repeat(here.components().count());
        let net = root.net().to_string_lossy().into_owned();
        for spelling in [
            net.clone(),
            format!("{net}/"),
            format!("{net}/."),
            format!("{net}/../net"),
            format!("{up}{net}"),
        ] {
            assert!(is_network_directory(&spelling, &root), "{spelling}");
        }
        let expected = Some(Ours { root: root.clone(), instance: 1, name: "en1".to_owned() });
        assert_eq!(Ours::find(&format!("{up}dev/io-net/en1"), &root), expected);
    }

    #[test]
    fn a_network_directory_is_known_by_its_type() {
        let mounts =
            "36 35 0:31 / /qnet rw,nosuid,nodev - fuse.qnet qnet rw\n37 35 0:5 / /dev rw - tmpfs tmpfs rw\n";
        assert!(is_qnet_mount(Path::new("/qnet"), mounts));
        assert!(!is_qnet_mount(Path::new("/dev"), mounts));
    }

    #[test]
    fn the_server_of_a_mount_tells_whose_it_is() {
        let processes = tempfile::tempdir().expect("a folder");
        for (pid, line) in [
            ("7", "sh\0-c\0qnet-netfs --mount /net\0"),
            ("8", "/lib/qnet-netfs\0--root\0/run/io-pkt\0--mount\0/net\0"),
            ("9", "/lib/qnet-netfs\0--root\0/tmp/node\0--mount\0/tmp/node/net\0--standby\0"),
        ] {
            fs::create_dir(processes.path().join(pid)).expect("a process");
            fs::write(processes.path().join(pid).join("cmdline"), line).expect("a command line");
        }
        let find = |path: &str| root_of_mount(Path::new(path), processes.path());
        assert_eq!(find("/tmp/node/net"), Some(Root::at("/tmp/node")));
        assert_eq!(find("/net"), Some(Root::at("/run/io-pkt")));
        assert_eq!(find("/elsewhere"), None);
    }
}
