//! One of those that are compared: a client and a server, and what of each side's processes works for them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    part::Part,
    pingpong::Carrier,
    placement::{CPU_A, CPU_B, Placement},
    rig::Rig,
    sys,
    trips::{Plan, Trips},
};

/// A client that answers plans, and its server.
#[derive(Debug)]
pub struct Contestant {
    /// For the tables.
    pub name: String,
    /// Longest message that it can carry.
    pub longest: usize,
    client: Part,
    _server: Part,
    near: Vec<i32>,
    far: Vec<i32>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The trips.
    pub trips: Trips,
    /// CPU time of all processes of the contestant for one trip.
    pub cpu: Duration,
}

impl Contestant {
    /// Of a server that has said what it had to say, and a client that is about to say `ready`. Daemons that work for
    /// them are named for each side.
    ///
    /// # Errors
    /// The client does not reach its server.
    pub fn new(name: &str, server: Part, mut client: Part, daemons: Option<(i32, i32)>) -> Result<Self> {
        let said = client.line().with_context(|| format!("{name}: the client does not reach its server"))?;
        ensure!(said == "ready", "{name}: the client says `{said}`");
        let (mut near, mut far) = (vec![client.pid()], vec![server.pid()]);
        if let Some((a, b)) = daemons {
            near.push(a);
            far.push(b);
        }
        Ok(Self { name: name.to_owned(), longest: u32::MAX as usize, client, _server: server, near, far })
    }

    /// A message in others' means, from side `a` to side `b`; see [`crate::pingpong`] for `at` and `to`.
    ///
    /// # Errors
    /// An end does not start.
    pub fn carrier(rig: &Rig, name: &str, carrier: Carrier, at: &str, to: &str) -> Result<Self> {
        Self::between(rig, ("a", "b"), name, carrier, at, to)
    }

    /// The same on one side.
    ///
    /// # Errors
    /// An end does not start.
    pub fn local(rig: &Rig, name: &str, carrier: Carrier, path: &str) -> Result<Self> {
        Self::between(rig, ("a", "a"), name, carrier, path, path)
    }

    fn between(
        rig: &Rig,
        (near, far): (&str, &str),
        name: &str,
        carrier: Carrier,
        at: &str,
        to: &str,
    ) -> Result<Self> {
        let mut server = rig.play(far, None, &["echo", carrier.word(), at])?;
        ensure!(server.line()? == "ready", "{name}: the server does not start");
        let client = rig.play(near, None, &["ping", carrier.word(), to])?;
        Ok(Self { longest: carrier.longest(), ..Self::new(name, server, client, None)? })
    }

    /// Puts both sides where the placement wants them.
    ///
    /// # Errors
    /// A process is gone.
    pub fn place(&self, placement: Placement) -> Result<()> {
        placement.apply(&self.near, CPU_A)?;
        placement.apply(&self.far, CPU_B)
    }

    /// Makes the trips.
    ///
    /// # Errors
    /// The client failed.
    pub fn measure(&mut self, plan: &Plan) -> Result<Measured> {
        let before = self.cpu_time()?;
        let line = self.client.ask(&plan.line()).with_context(|| format!("{}: {plan:?}", self.name))?;
        let trips: Trips = line.parse()?;
        let used = self.cpu_time()?.saturating_sub(before);
        Ok(Measured { trips, cpu: used.div_f64(trips.all.max(1) as f64) })
    }

    fn cpu_time(&self) -> Result<Duration> {
        let processes = self.near.iter().chain(&self.far);
        Ok(processes.map(|process| sys::cpu_time(*process)).sum::<Result<Duration, _>>()?)
    }
}
