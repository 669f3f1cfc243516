//! Local message channels over Unix sockets
