//! Serves this node's files to other nodes

fn main() {}
