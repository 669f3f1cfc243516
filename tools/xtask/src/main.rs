//! Build, test and benchmark tasks

fn main() {}
