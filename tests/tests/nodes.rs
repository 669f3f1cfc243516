//! Placeholder.
system_tests::cases! {}
