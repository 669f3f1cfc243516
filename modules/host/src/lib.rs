//! Finds, checks, maps and runs module files
