//! The suite every module passes
