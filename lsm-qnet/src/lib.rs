//! Qnet: messages between the nodes of a network
