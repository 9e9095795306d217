//! A server in a process of its own, looked at from outside; and numbers as they are told.
#![allow(dead_code, unreachable_pub, reason = "each program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a tool for measurements"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The program beside this one.
pub fn program(given: Option<&Path>) -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("spark"));
    let program = given.map(Path::to_path_buf).or_else(beside).unwrap_or_default();
    if !program.is_file() {
        eprintln!(
            "{} is not there: `cargo build --release --bin spark`, or give --spark PATH",
            program.display()
        );
        std::process::exit(66);
    }
    program
}

/// The same, with as many open files allowed as may be: every device is one, here and there.
pub fn program_for_many(given: Option<&Path>) -> PathBuf {
    let program = program(given);
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    program
}

/// A running server. It is killed when it is dropped.
pub struct Process(pub Child);

impl Process {
    /// Bytes of memory in use.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Bytes of memory that were in use at most.
    pub fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Open files.
    pub fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    /// Processor time so far; Linux counts it in hundredths of a second.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let times = stat.rsplit(')').next().unwrap().split(' ').skip(12).take(2);
        Duration::from_millis(times.map(|time| time.parse::<u64>().unwrap()).sum::<u64>() * 10)
    }

    /// Ends it as a power cut does.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Interrupts it and waits: how long it took, `None` if it had to be killed or failed.
    pub fn stop(mut self) -> Option<Duration> {
        let started = Instant::now();
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        while started.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success().then(|| started.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// The value below which this part of them is.
pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}
