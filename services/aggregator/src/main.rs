//! The aggregator: counts every execution exactly once.

use std::process::ExitCode;

/// Recording makes and drops many small pieces of memory; a quarter of its processor time went to glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chassis::run::<aggregator::Aggregator>()
}
