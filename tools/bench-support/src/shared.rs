//! Messages through shared memory with a futex each way: what a hand-over between two processes costs at least when both
//! sleep, with the copy in and the copy out that a message between two memories takes.
//!
//! ```text
//!  0          64         128      192              192 + ROOM
//!  ┌──────────┬──────────┬────────┬────────────────┐
//!  │ requests │ answers  │ length │ bytes          │
//!  └──────────┴──────────┴────────┴────────────────┘
//! ```

use std::{path::Path, sync::atomic::Ordering};

use anyhow::{Result, ensure};

use crate::{
    sys::SharedMemory,
    trips::{self, Plan, Trips},
};

/// Longest message, bytes.
pub const ROOM: usize = 4 << 20;

const REQUESTS: usize = 0;
const ANSWERS: usize = 64;
const LENGTH: usize = 128;
const BYTES: usize = 192;

/// Makes the memory at a path, prints `ready`, and answers until the process is ended.
///
/// # Errors
/// When the memory cannot be made.
pub fn echo(at: &Path) -> Result<()> {
    let memory = SharedMemory::create(at, BYTES + ROOM)?;
    println!("ready");
    let (mut seen, mut own) = (0, vec![0; ROOM]);
    loop {
        seen = memory.wait_for_change(REQUESTS, seen)?;
        let len = (memory.word(LENGTH).load(Ordering::Relaxed) as usize).min(ROOM);
        memory.get(BYTES, &mut own[..len]);
        memory.put(BYTES, &own[..len]);
        memory.change(ANSWERS)?;
    }
}

/// Prints `ready`, then answers each plan with what it measured.
///
/// # Errors
/// There is no such memory.
pub fn ping(to: &Path) -> Result<()> {
    let memory = SharedMemory::open(to, BYTES + ROOM)?;
    println!("ready");
    trips::answer(|plan| measure(&memory, &plan))
}

fn measure(memory: &SharedMemory, plan: &Plan) -> Result<Trips> {
    ensure!(plan.size <= ROOM && plan.in_flight == 1, "one message of at most {ROOM} bytes");
    let mut own = vec![0xa5; plan.size];
    trips::take(plan, || {
        let seen = memory.word(ANSWERS).load(Ordering::Relaxed);
        memory.put(BYTES, &own);
        memory.word(LENGTH).store(own.len() as u32, Ordering::Relaxed);
        memory.change(REQUESTS)?;
        memory.wait_for_change(ANSWERS, seen)?;
        memory.get(BYTES, &mut own);
        Ok(())
    })
}
