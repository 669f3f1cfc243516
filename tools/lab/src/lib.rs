//! Several Qnet nodes on one machine, as a library.
