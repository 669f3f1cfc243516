//! Where the two sides run.

use anyhow::Result;
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Where everything of the near side runs, when both have a CPU of their own.
pub const CPU_A: usize = 0;
/// Where everything of the far side runs then.
pub const CPU_B: usize = 1;

/// Where the two sides run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Both on one CPU.
    Same,
    /// A CPU a side.
    Split,
    /// Anywhere.
    Free,
}

impl Placement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Same, Self::Split, Self::Free];

    /// For titles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "all on one CPU",
            Self::Split => "a CPU a side",
            Self::Free => "not pinned",
        }
    }

    /// The CPU of a side whose own one is `cpu`.
    #[must_use]
    pub const fn cpu(self, cpu: usize) -> Option<usize> {
        match self {
            Self::Same => Some(CPU_A),
            Self::Split => Some(cpu),
            Self::Free => None,
        }
    }

    /// Moves all threads of the processes of a side.
    ///
    /// # Errors
    /// A process is gone, or this machine has not that many CPUs.
    pub fn apply(self, processes: &[i32], cpu: usize) -> Result<()> {
        let mut set = CpuSet::new();
        match self.cpu(cpu) {
            Some(cpu) => set.set(cpu)?,
            None => (0..std::thread::available_parallelism()?.get()).try_for_each(|cpu| set.set(cpu))?,
        }
        for process in processes {
            for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
                let task: i32 = task?.file_name().to_string_lossy().parse()?;
                match sched_setaffinity(Pid::from_raw(task), &set) {
                    // A thread that ended meanwhile runs nowhere.
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(())
    }
}
