//! The Qnet protocol core: wire formats and state machines, no input or output
