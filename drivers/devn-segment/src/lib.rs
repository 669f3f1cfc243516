//! A virtual Ethernet segment between unprivileged processes
