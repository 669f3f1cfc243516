//! The names of a node in the file system: root directory, locks, device files, the directory of channels.
//!
//! Where they are is decided by [`ctl::Root`]; this part makes them, and removes what a dead daemon left behind. A
//! daemon is alive exactly as long as it holds the lock on its pid file, which the kernel drops with the process.

pub mod channels;
pub mod devices;
pub mod lock;
pub mod rootdir;

pub use channels::ChannelNames;
pub use devices::{DeviceDir, DeviceName};
pub use lock::{LockError, PidLock};
pub use rootdir::{make_root, sweep, use_lock};
