//! Memory of running processes, as the kernel counts it.

use std::fs;

/// Memory of one process, or of one and all its children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// In use now.
    pub now_kib: u64,
    /// The most ever in use; for a family, the sum of the peaks.
    pub peak_kib: u64,
}

/// Memory of one process (VmRSS and VmHWM).
pub fn of(pid: u32) -> Option<Memory> {
    parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Memory of a process and its children. Shared pages are counted once (proportional set size): the processes
/// of Postgres share most of theirs.
pub fn of_family(pid: u32) -> Option<u64> {
    let mut kib = proportional(pid).or_else(|| of(pid).map(|memory| memory.now_kib))?;
    for child in children(pid) {
        kib += proportional(child).or_else(|| of(child).map(|memory| memory.now_kib)).unwrap_or_default();
    }
    Some(kib)
}

fn parse(status: &str) -> Option<Memory> {
    Some(Memory { now_kib: line_kib(status, "VmRSS:")?, peak_kib: line_kib(status, "VmHWM:")? })
}

fn proportional(pid: u32) -> Option<u64> {
    line_kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

fn line_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The processes that this one has started and that still run.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_parsed() {
        let status = "Name:\tflowmeter\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(parse(status), Some(Memory { now_kib: 10_240, peak_kib: 20_480 }));
        assert_eq!(parse("Name:\tkthreadd\n"), None);
    }
}
