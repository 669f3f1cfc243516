//! Several Qnet nodes on one machine

fn main() {}
