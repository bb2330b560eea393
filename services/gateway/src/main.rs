//! The gateway: the HTTP face of Flowmeter.

use std::process::ExitCode;

/// Each answer makes and drops many small pieces of memory; a seventh of the processor time went to glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chassis::run::<gateway::Gateway>()
}
