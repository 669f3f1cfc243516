//! Serves /net: file system requests become Qnet messages

fn main() {}
