//! Builds what the benchmarks measure.

use std::path::PathBuf;

use anyhow::Result;
use stack::{Project, binaries};

/// Packages of the benchmarks. All of them build all of these: another selection would build dependencies with other
/// features, again each time.
const PACKAGES: [&str; 6] = ["collector", "aggregator", "gateway", "flowmeter", "sandbox", "load"];

/// Builds them with optimisations. Returns the folder with the binaries.
pub fn build(project: &Project) -> Result<PathBuf> {
    println!("Building with optimisations (the first time takes minutes)");
    binaries::build_packages(project, &PACKAGES, true)
}
