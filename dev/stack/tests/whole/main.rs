//! The whole stack, as an operator runs it.
