//! The conformance suite: what every module keeps, what the host refuses, what the two agree on.
//!
//! One program, so that modules are built and mapped once. The modules come from [`conformance::Workshop`].

mod common;
mod daemon;
mod header;
mod layouts;
mod loading;
mod modules;
mod resolvers;
