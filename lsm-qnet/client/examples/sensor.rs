//! A sensor: a timer's pulses make it measure, and whoever asks is answered with the next measurement.
//!
//! ```text
//! cargo run -p qnet --example sensor
//! ```
//!
//! The sensor waits in one place for its timer and for its clients, as QNX's servers do, and answers when it has something
//! to say: a message is a value that it keeps meanwhile.

use std::{error::Error, thread, time::Duration};

use qnet::{Channel, ChannelFlags, Clock, Connection, LOCAL_NODE, Message, Received, Root, Timer};

const TICK: i8 = 1;
const STOP: i8 = 2;
/// Ticks are more urgent than questions.
const URGENT: i32 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Root::locate(None)?;
    let channel = Channel::create(&root, ChannelFlags::PRIVATE)?;
    let attach = || Connection::attach(&root, LOCAL_NODE, channel.pid(), channel.chid());
    let timer = Timer::pulsing(Clock::Monotonic, attach()?, URGENT, TICK, 0)?;
    timer.every(Duration::from_millis(20))?;
    let client = attach()?;
    thread::scope(|scope| {
        scope.spawn(|| ask(&client));
        measure(&channel)
    })?;
    Ok(())
}

/// The client: three questions.
fn ask(sensor: &Connection) -> Result<(), qnet::Error> {
    for _ in 0..3 {
        let degrees = sensor.send(b"", &mut [])?.status;
        println!("{degrees} degrees");
    }
    sensor.pulse(URGENT, STOP, 0)
}

/// The sensor, which finds that it gets warmer.
fn measure(channel: &Channel) -> Result<(), qnet::Error> {
    let (mut degrees, mut waiting) = (20, Vec::<Message>::new());
    loop {
        match channel.receive(None)? {
            Received::Message(message) => waiting.push(message),
            Received::Pulse(pulse) if pulse.code == STOP => return Ok(()),
            Received::Pulse(_) => {
                degrees += 1;
                for message in waiting.drain(..) {
                    // A client that is gone by now needs no answer.
                    let _gone = message.reply(degrees, b"");
                }
            }
        }
    }
}
