//! Tests of the sending half.
