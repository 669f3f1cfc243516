//! A sensor: a timer's pulses make it measure, and messages ask for what it measured last.
//!
//! ```text
//! cargo run -p qnet --example sensor
//! ```
//!
//! One thread is the timer, one the client; the sensor itself waits in one place for both, as QNX's servers do.

use std::{error::Error, thread, time::Duration};

use qnet::{Channel, ChannelFlags, Connection, LOCAL_NODE, Received, Root};

const TICK: i8 = 1;
const STOP: i8 = 2;
/// Ticks are more urgent than questions.
const URGENT: i32 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Root::locate(None)?;
    let channel = Channel::create(&root, ChannelFlags::PRIVATE)?;
    let attach = || Connection::attach(&root, LOCAL_NODE, channel.pid(), channel.chid());
    thread::scope(|scope| {
        let timer = attach()?;
        scope.spawn(move || {
            for tick in 0..10 {
                thread::sleep(Duration::from_millis(20));
                if timer.pulse(URGENT, TICK, tick).is_err() {
                    return;
                }
            }
        });
        let client = attach()?;
        scope.spawn(move || -> Result<(), qnet::Error> {
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(60));
                let reply = client.send(b"", &mut [])?;
                println!("{} degrees", reply.status);
            }
            client.pulse(URGENT, STOP, 0)
        });
        measure(&channel)
    })?;
    Ok(())
}

fn measure(channel: &Channel) -> Result<(), qnet::Error> {
    let mut degrees = 20;
    loop {
        match channel.receive(None)? {
            Received::Pulse(pulse) if pulse.code == STOP => return Ok(()),
            Received::Pulse(pulse) => degrees = 20 + (pulse.value % 3) as i64,
            Received::Message(message) => message.reply(degrees, b"")?,
        }
    }
}
