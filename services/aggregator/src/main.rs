//! The aggregator: counts every execution exactly once.

use std::process::ExitCode;

/// Recording makes and drops millions of small pieces of memory a second; glibc's allocator takes twice as long for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chassis::run::<aggregator::Aggregator>()
}
