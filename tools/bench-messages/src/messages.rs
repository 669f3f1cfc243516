//! The client of `MsgSend`, which measures each round trip.

use std::{path::Path, thread};

use anyhow::{Context, Result};
use bench_support::trips::{self, Plan, Trips};
use qnet::{Connection, Root};

/// Attaches to a server on node `nd`, then answers plans.
///
/// # Errors
/// When the server cannot be reached or a message fails.
pub fn client(root: &Path, nd: u32, (pid, chid): (i32, i32)) -> Result<()> {
    let connection = Connection::attach(&Root::at(root)?, nd, pid, chid)?;
    println!("ready");
    trips::answer(
        |plan| if plan.in_flight == 1 { alone(&connection, &plan) } else { together(&connection, &plan) },
    )
}

fn alone(connection: &Connection, plan: &Plan) -> Result<Trips> {
    let (all, times) = send(connection, plan)?;
    let nanos = times.iter().copied().map(u64::from).sum();
    Ok(Trips::of(all, nanos, times))
}

/// A thread for each message under way, because who sends is blocked.
fn together(connection: &Connection, plan: &Plan) -> Result<Trips> {
    let outcomes: Vec<_> = thread::scope(|scope| {
        let senders: Vec<_> = (0..plan.in_flight).map(|_| scope.spawn(|| send(connection, plan))).collect();
        senders.into_iter().map(|sender| sender.join().ok().context("a sender ended")?).collect::<Result<_>>()
    })?;
    let (mut all, mut nanos, mut times) = (0, 0, Vec::new());
    for (made, mut took) in outcomes {
        all += made;
        nanos += took.iter().copied().map(u64::from).sum::<u64>();
        times.append(&mut took);
    }
    // They ran side by side.
    Ok(Trips::of(all, nanos / plan.in_flight as u64, times))
}

fn send(connection: &Connection, plan: &Plan) -> Result<(u64, Vec<u32>)> {
    let message = vec![0xa5; plan.size];
    let mut answer = vec![0; if plan.echo { plan.size } else { 0 }];
    trips::repeat(plan, || {
        let reply = connection.send(&message, &mut answer)?;
        anyhow::ensure!(
            reply.len == answer.len(),
            "an answer of {} bytes instead of {}",
            reply.len,
            answer.len()
        );
        Ok(())
    })
}
