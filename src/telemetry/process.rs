//! What does this process use of its machine? As Linux says; elsewhere nothing is said.

use std::fs;

/// What is used now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Since the process started.
    pub cpu_seconds: f64,
    pub resident_bytes: f64,
    pub open_files: f64,
}

/// `None` where there is no `/proc`.
pub fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold anything; the rest is numbers: man 5 proc.
    let fields: Vec<f64> =
        stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
    // Linux gives all programs ticks of a hundredth of a second, whatever its own are.
    let cpu_seconds = (fields.get(11)? + fields.get(12)?) / 100.0;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = resident.trim().trim_end_matches("kB").trim().parse().ok()?;
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count() as f64;
    Some(Usage { cpu_seconds, resident_bytes: kib * 1_024.0, open_files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_knows_what_it_uses() {
        let usage = usage().unwrap();
        assert!(usage.cpu_seconds >= 0.0 && usage.resident_bytes > 1e6 && usage.open_files >= 3.0, "{usage:?}");
    }
}
