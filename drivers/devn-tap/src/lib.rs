//! TAP devices
