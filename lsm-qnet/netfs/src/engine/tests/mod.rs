//! The engine between a scripted kernel and a scripted `lsm-qnet`. Time is an argument; nothing waits.

mod ahead;
mod behaviour;
mod bench;
mod changes;
mod hostile;
mod locks;
mod lookahead;
mod meant;
mod nodes;
mod spellings;
mod statistics;
mod waiting;
