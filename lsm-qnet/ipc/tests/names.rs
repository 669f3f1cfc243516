//! Names and their owners: processes that can be killed, of several users.
//!
//! Called with `OWNER_OF` in its environment this program is such an owner: it reads commands from its standard input and
//! answers each with a line.

#![expect(clippy::unwrap_used, reason = "a test; functions outside #[test] are not exempted by themselves")]

use std::{
    collections::HashMap,
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::{errno::Errno, unistd::geteuid};
use qnet_ipc::{
    Root,
    names::{self, Owner},
};
use tempfile::TempDir;

/// A test, and whether it needs to become other users.
type Case = (&'static str, bool, fn());

const CASES: &[Case] = &[
    ("a_name_has_one_owner_until_he_gives_it_up", false, one_owner),
    ("a_killed_owner_leaves_nothing", false, killed),
    ("the_living_clear_away_what_the_dead_left", false, cleared),
    ("names_lie_in_directories_that_come_and_go_with_them", false, nested),
    ("names_that_would_lead_elsewhere_are_refused", false, refused),
    ("no_link_leads_out_of_the_names", false, links),
    ("what_an_entry_says_is_not_believed", false, contents),
    ("a_name_wanted_by_many_is_had_by_one_at_a_time", false, crowd),
    ("directories_of_global_names_are_as_closed_as_their_base", true, closed),
    ("the_dead_make_way_for_other_users_and_the_living_do_not", true, users),
];

fn main() -> ExitCode {
    if let Some(base) = env::var_os("OWNER_OF") {
        own(Path::new(&base));
        return ExitCode::SUCCESS;
    }
    let must_run = env::var_os("CI").is_some_and(|value| value == "true");
    let trials = CASES.iter().map(|(name, root, test)| {
        let test = *test;
        match (*root && !geteuid().is_root(), must_run) {
            (false, _) => Trial::test(*name, move || {
                test();
                Ok(())
            }),
            (true, true) => Trial::test(*name, || Err(Failed::from("needs root, and CI=true asks for it"))),
            (true, false) => {
                eprintln!("{name}: ignored: needs root to become other users");
                Trial::test(*name, || Ok(())).with_ignored_flag(true)
            }
        }
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// What a process does that has names.
fn own(base: &Path) {
    let mut mine = HashMap::new();
    let show = |result: Result<String, Errno>| result.unwrap_or_else(|errno| format!("{errno:?}"));
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["attach", name, chid] => show(attach(base, name, chid.parse().unwrap()).map(|held| {
                mine.insert((*name).to_owned(), held);
                "ok".to_owned()
            })),
            ["detach", name] => mine.remove(*name).map_or("none".to_owned(), |_| "ok".to_owned()),
            ["owner", name] => show(
                names::owner(base, OsStr::new(name)).map(|owner| format!("{} {}", owner.pid, owner.chid)),
            ),
            ["hammer", name, rounds] => hammer(base, name, rounds.parse().unwrap()).to_string(),
            other => panic!("{other:?}"),
        };
        println!("{answer}");
    }
}

fn attach(base: &Path, name: &str, chid: i32) -> Result<names::HeldName, Errno> {
    names::attach(base, OsStr::new(name), chid)
}

/// Takes and gives up a name many times; tells how often it had it.
fn hammer(base: &Path, name: &str, rounds: u32) -> u32 {
    let mut had = 0;
    for _ in 0..rounds {
        match attach(base, name, 7) {
            Ok(held) => {
                had += 1;
                // A second holder would be seen by its file, which only one can have made or locked.
                assert_eq!(names::owner(base, OsStr::new(name)).unwrap().pid, std::process::id() as i32);
                assert!(held.path().exists());
            }
            Err(errno) => assert!(matches!(errno, Errno::EEXIST | Errno::EAGAIN), "{errno}"),
        }
    }
    had
}

/// A process that has names.
struct Process {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(base: &Path, user: Option<u32>) -> Self {
        // By way of /proc, because other users cannot walk to where it was built.
        let mut command = Command::new("/proc/self/exe");
        command.env("OWNER_OF", base).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = Root::at(directory.path()).unwrap();
    names::make_local_directory(&root).unwrap();
    let base = root.local_names();
    (directory, base)
}

fn owner(base: &Path, name: &str) -> Result<Owner, Errno> {
    names::owner(base, OsStr::new(name))
}

fn one_owner() {
    let (_directory, base) = directory();
    let mut other = Process::start(&base, None);
    let held = attach(&base, "valve", 3).unwrap();
    let own = std::process::id() as i32;
    assert_eq!(owner(&base, "valve"), Ok(Owner { pid: own, chid: 3 }));
    assert_eq!(other.ask("owner valve"), format!("{own} 3"));
    assert_eq!(other.ask("attach valve 1"), "EEXIST");
    assert_eq!(attach(&base, "valve", 4).unwrap_err(), Errno::EEXIST, "nor has the owner twice");
    assert_eq!(other.ask("owner valve"), format!("{own} 3"), "and having tried it changed nothing");
    assert_eq!(fs::read_to_string(base.join("valve")).unwrap(), format!("pid {own} chid 3\n"));
    drop(held);
    assert_eq!(owner(&base, "valve"), Err(Errno::ENOENT));
    assert!(!base.join("valve").exists());
    assert_eq!(other.ask("attach valve 1"), "ok");
    assert_eq!(owner(&base, "valve"), Ok(Owner { pid: other.pid(), chid: 1 }));
}

fn killed() {
    let (_directory, base) = directory();
    let mut other = Process::start(&base, None);
    for name in ["a", "b", "c/d"] {
        assert_eq!(other.ask(&format!("attach {name} 1")), "ok");
    }
    assert_eq!(names::list(&base).len(), 3);
    other.kill();
    assert!(base.join("a").exists(), "nobody was there to remove it");
    assert_eq!(owner(&base, "a"), Err(Errno::ENOENT));
    let _held = attach(&base, "b", 9).unwrap();
    assert_eq!(owner(&base, "b").unwrap().chid, 9);
    let left: Vec<PathBuf> = names::list(&base).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, [PathBuf::from("b")]);
    assert!(!base.join("a").exists() && !base.join("c/d").exists());
}

fn cleared() {
    let (_directory, base) = directory();
    let (mut dying, mut living) = (Process::start(&base, None), Process::start(&base, None));
    for name in ["a", "b", "c/d", "c/e/f"] {
        assert_eq!(dying.ask(&format!("attach {name} 1")), "ok");
    }
    assert_eq!(living.ask("attach c/g 1"), "ok");
    let _held = attach(&base, "own", 2).unwrap();
    let tree = [PathBuf::new(), "c/e".into(), "c".into()];
    assert_eq!(names::clear(&base, 100), tree, "nobody is dead");
    dying.kill();
    names::clear(&base, 0);
    assert!(base.join("a").exists(), "no more than that is looked at");
    assert_eq!(names::clear(&base, 100), [PathBuf::new(), "c".into()]);
    let left: Vec<PathBuf> = names::list(&base).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, [PathBuf::from("c/g"), "own".into()]);
    assert!(!base.join("a").exists() && !base.join("b").exists() && !base.join("c/d").exists());
}

fn nested() {
    let (_directory, base) = directory();
    let mut other = Process::start(&base, None);
    let held = attach(&base, "plant/boiler/valve", 1).unwrap();
    assert_eq!(owner(&base, "plant/boiler"), Err(Errno::EISDIR));
    assert_eq!(other.ask("attach plant/boiler 1"), "EEXIST", "a directory of names is no name");
    assert_eq!(other.ask("attach plant/boiler/valve/handle 1"), "ENOTDIR", "nor a name a directory");
    assert_eq!(other.ask("owner plant/boiler/valve/handle"), "ENOTDIR");
    assert_eq!(other.ask("attach plant/pump 2"), "ok");
    drop(held);
    assert!(base.join("plant").is_dir() && !base.join("plant/boiler").exists());
    other.kill();
    let _plant = attach(&base, "plant", 5).unwrap();
    assert!(base.join("plant").is_file(), "the dead made way");
    assert_eq!(names::list(&base).len(), 1);
}

fn refused() {
    let (_directory, base) = directory();
    for name in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "nul\0byte"] {
        assert_eq!(attach(&base, name, 1).unwrap_err(), Errno::EINVAL, "{name}");
        assert_eq!(owner(&base, name), Err(Errno::EINVAL), "{name}");
    }
    for name in ["n".repeat(256), "long/".repeat(205) + "name"] {
        assert_eq!(attach(&base, &name, 1).unwrap_err(), Errno::ENAMETOOLONG);
    }
    assert_eq!(attach(&base, "channel", 0).unwrap_err(), Errno::EINVAL);
    std::os::unix::fs::symlink("/etc", base.join("link")).unwrap();
    assert_eq!(attach(&base, "link", 1).unwrap_err(), Errno::EEXIST);
    assert!(attach(&base, ("d/".repeat(100) + "name").as_str(), 1).is_ok());
    assert_eq!(fs::read_dir(&base).unwrap().count(), 1, "only the link is there");
}

fn links() {
    let (directory, base) = directory();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(base.join("plant")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, base.join("plant/boiler")).unwrap();
    for name in ["plant/boiler/valve", "plant/boiler/deep/valve"] {
        assert_eq!(attach(&base, name, 1).unwrap_err(), Errno::EEXIST);
        assert_eq!(owner(&base, name), Err(Errno::ELOOP));
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::write(elsewhere.join("valve"), "").unwrap();
    assert_eq!(names::list(&base), []);
    assert!(elsewhere.join("valve").exists());
}

fn contents() {
    let (_directory, base) = directory();
    let mut other = Process::start(&base, None);
    assert_eq!(other.ask("attach valve 2"), "ok");
    fs::write(base.join("valve"), "pid 1 chid 1\n").unwrap();
    assert_eq!(owner(&base, "valve"), Ok(Owner { pid: other.pid(), chid: 2 }));
    fs::write(base.join("forged"), "pid 1 chid 1\n").unwrap();
    assert_eq!(owner(&base, "forged"), Err(Errno::ENOENT));
}

fn crowd() {
    let (_directory, base) = directory();
    let mut crowd: Vec<Process> = (0..6).map(|_| Process::start(&base, None)).collect();
    crowd.iter_mut().for_each(|process| process.tell("hammer deep/name 300"));
    let had: u32 = crowd.iter_mut().map(|process| process.answer().parse::<u32>().unwrap()).sum();
    assert!(had > 0, "it was there to be had");
    assert_eq!(names::list(&base), []);
}

fn closed() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = Root::at(directory.path()).unwrap();
    names::make_offered_directory(&root).unwrap();
    let base = root.offered_names();
    let _held = attach(&base, "plant/valve", 1).unwrap();
    let mut other = Process::start(&base, Some(65534));
    assert_eq!(other.ask("attach alarm 1"), "EACCES");
    assert_eq!(other.ask("attach plant/pump 1"), "EACCES");
    assert_eq!(other.ask("owner plant/valve"), format!("{} 1", std::process::id()));
}

fn users() {
    let (_directory, base) = directory();
    let (mut first, mut second) = (Process::start(&base, Some(65534)), Process::start(&base, Some(65533)));
    assert_eq!(first.ask("attach valve 1"), "ok");
    let entry = fs::metadata(base.join("valve")).unwrap();
    assert_eq!((entry.uid(), entry.mode() & 0o7777), (65534, 0o666));
    assert_eq!(second.ask("attach valve 1"), "EEXIST");
    assert_eq!(second.ask("owner valve"), format!("{} 1", first.pid()));
    first.kill();
    assert_eq!(second.ask("owner valve"), "ENOENT");
    assert!(base.join("valve").exists(), "only its user or root may remove it");
    assert_eq!(second.ask("attach valve 6"), "ok");
    assert_eq!(owner(&base, "valve"), Ok(Owner { pid: second.pid(), chid: 6 }));
    assert_eq!(second.ask("attach plant/valve 1"), "ok");
    assert_eq!(
        fs::metadata(base.join("plant")).unwrap().mode() & 0o7777,
        0o1777,
        "for everybody, as the base is"
    );
    assert_eq!(second.ask("detach valve"), "ok");
    assert_eq!(owner(&base, "valve"), Err(Errno::ENOENT));
    assert!(!base.join("valve").exists(), "root met it");
}
