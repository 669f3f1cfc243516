//! Shows what runs, in the columns of QNX's pidin

fn main() {}
