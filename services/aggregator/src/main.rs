//! The aggregator: counts every execution exactly once.

use std::process::ExitCode;

/// Recording makes many small allocations; a quarter of its CPU time went to glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chassis::run::<aggregator::Aggregator>()
}
