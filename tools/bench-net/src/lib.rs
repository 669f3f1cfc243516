//! Parts of the benchmark of `/net`: `cargo xtask bench net`.
//!
//! ```text
//!  namespace a                                        namespace b, with a mount namespace whose /mnt is a tmpfs
//!  qnet-netfs, io-pkt ── q0 ═════════════════════ q1 ── io-pkt, qnet-server ─┐
//!  the same, another installation ── r0 ══════════ r1 ── the same ───────────┤
//!  sshfs ── s0 ═══════════════════════════════════ s1 ── sshd, sftp-server ──┼── /mnt
//!  nfs-cat, nfs-ls; diodcat ── s0 ════════════════ s1 ── NFS-Ganesha; diod ──┤
//!  passthrough_ll (no wire) ─────────────────────────────────────────────────┘
//! ```
//!
//! Every measurement is a process of its own with mounts of its own ([`client`]): it mounts, asks for one file so that the
//! connection is there, does its [`work`], and is gone with its mounts. So the client's caches are cold each time, in the
//! same way for everybody, and the server's are warm, because its files lie in memory ([`data`]).
//!
//! | file | holds |
//! |---|---|
//! | `data.rs` | the files that are served |
//! | `work.rs` | what is done with them and measured |
//! | `client.rs` | the process that mounts and works |
//! | `contestants.rs` | who takes part: how each is mounted |
//! | `servers.rs` | sshd, NFS-Ganesha and diod with settings of their own |
//! | `passthrough.rs` | the local ceiling |
//! | `sections.rs` | rounds and tables |

pub mod client;
pub mod contestants;
pub mod data;
pub mod passthrough;
pub mod role;
pub mod sections;
pub mod servers;
pub mod work;
