//! A network simulator for the Qnet protocol core
