//! The gateway: the HTTP face of Flowmeter.

use std::process::ExitCode;

/// Each answer makes many small allocations; glibc's allocator took a seventh of the processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chassis::run::<gateway::Gateway>()
}
