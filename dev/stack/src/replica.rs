//! Identifies one process of a program: services may run more than once.

use std::fmt;

use crate::Program;

/// One process of a program, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// What it runs.
    pub program: Program,
    /// Which one it is.
    pub number: u8,
}

impl Replica {
    /// The processes of a program that runs this many times.
    pub fn of(program: Program, count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(move |number| Self { program, number })
    }

    /// The name of its log and its pid file: for the first one, the program's name.
    pub fn name(self) -> String {
        match self.number {
            1 => self.program.name().to_owned(),
            number => format!("{}-{number}", self.program.name()),
        }
    }
}

impl From<Program> for Replica {
    /// The first one: by default the only one.
    fn from(program: Program) -> Self {
        Self { program, number: 1 }
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}
