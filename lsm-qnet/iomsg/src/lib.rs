//! Layouts of QNX's _IO_ messages, its errno values and flags
