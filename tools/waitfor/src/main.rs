//! Waits until a path is there

fn main() {}
