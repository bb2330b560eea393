//! Processor time of running processes, as the kernel counts it.

use std::{fs, time::Duration};

use crate::memory::children;

/// Ticks of `/proc` in a second: `USER_HZ`, which is 100 on every architecture that Rust has a Linux for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Places of the times in `/proc/<pid>/stat`, counted from the state, which follows the name.
const OWN: [usize; 2] = [11, 12];
const OF_ENDED_CHILDREN: [usize; 2] = [13, 14];

/// The place of the stolen time in the first line of `/proc/stat`.
const STOLEN: usize = 7;

/// Processor time that a process has used, in all its threads.
pub fn of(pid: u32) -> Option<Duration> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, &OWN)
}

/// The same for a process and its children, including those that have ended: Postgres has one for each connection.
pub fn of_family(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let family = children(pid).into_iter().filter_map(of).sum::<Duration>();
    Some(ticks(&stat, &OWN)? + ticks(&stat, &OF_ENDED_CHILDREN)? + family)
}

/// Processor time that the whole machine has used since it was started, in all processes.
pub fn of_machine() -> Option<Duration> {
    busy(&fs::read_to_string("/proc/stat").ok()?)
}

/// Time since the machine was started that its host gave to others while it wanted to run.
pub fn stolen_from_machine() -> Option<Duration> {
    stolen(&fs::read_to_string("/proc/stat").ok()?)
}

fn ticks(stat: &str, places: &[usize]) -> Option<Duration> {
    // The name is in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = places.iter().map(|place| fields.get(*place)?.parse::<f64>().ok()).sum::<Option<f64>>()?;
    Some(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

/// User, nice, system, interrupts and stolen time; neither idle nor waiting for a disk.
fn busy(stat: &str) -> Option<Duration> {
    of_all_processors(stat, &[0, 1, 2, 5, 6, STOLEN])
}

fn stolen(stat: &str) -> Option<Duration> {
    of_all_processors(stat, &[STOLEN])
}

fn of_all_processors(stat: &str, places: &[usize]) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<f64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let ticks = places.iter().map(|place| fields.get(*place).copied()).sum::<Option<f64>>()?;
    Some(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_parsed() {
        let stat = "42 (a (strange) name) S 1 42 42 0 -1 4194560 900 0 1 0 150 50 30 20 20 0 9 0 77";
        assert_eq!(ticks(stat, &OWN), Some(Duration::from_secs(2)));
        assert_eq!(ticks(stat, &OF_ENDED_CHILDREN), Some(Duration::from_millis(500)));
        assert_eq!(ticks("42 (short) S 1", &OWN), None);
        let machine = "cpu  100 0 50 9000 70 20 20 10 0 0\n";
        assert_eq!(busy(machine), Some(Duration::from_secs(2)));
        assert_eq!(stolen(machine), Some(Duration::from_millis(100)));
    }
}
