//! `cargo xtask bench`.

use std::{ffi::OsString, os::unix::process::CommandExt, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use stack::{Project, binaries::cargo};

/// Arguments of `cargo xtask bench`: the package `bench` knows them.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Bench {
    /// What to measure, and how: `cargo xtask bench --help` lists it.
    #[arg(value_name = "PART", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    /// Becomes the package `bench`, which is separate because it needs a broker client and draws a plot: other tasks should
    /// not have to build these. Signals and the exit code are the benchmark's own.
    pub fn run(&self) -> Result<ExitCode> {
        let mut bench = cargo(&Project::find()?);
        bench.args(["run", "--quiet", "--package", "bench", "--"]).args(&self.arguments);
        Err(bench.exec()).context("cannot start cargo")
    }
}
