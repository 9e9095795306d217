//! Being told to stop: Ctrl-C, a polite kill, or a terminal that goes away.

/// How the process was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    /// By somebody who may insist.
    Asked,
    /// The terminal is gone; only Unix says so. That may be said twice, by the shell and by the system, and is never meant as insisting.
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix says so"))]
    HungUp,
}

/// The signals that tell a process to stop. On Unix, none that comes between two calls is lost.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    asked: Vec<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    hung_up: Option<tokio::signal::unix::Signal>,
}

impl Interrupts {
    /// Listens from now on. It has to be called within a runtime.
    #[cfg(unix)]
    pub(crate) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let asked = [SignalKind::interrupt(), SignalKind::terminate()];
        // Without a handler there is nothing to wait for: the default action ends the process.
        let asked = asked.into_iter().filter_map(|kind| signal(kind).ok()).collect();
        let hung_up = if hang_up_is_ignored() { None } else { signal(SignalKind::hangup()).ok() };
        Self { asked, hung_up }
    }

    #[cfg(not(unix))]
    pub(crate) const fn new() -> Self {
        Self {}
    }

    /// The next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> Interrupt {
        core::future::poll_fn(|context| {
            let mut is_there = |signal: &mut tokio::signal::unix::Signal| {
                matches!(signal.poll_recv(context), core::task::Poll::Ready(Some(())))
            };
            // All of them are polled, so that each wakes this task.
            if self.asked.iter_mut().map(&mut is_there).fold(false, |any, one| any | one) {
                return core::task::Poll::Ready(Interrupt::Asked);
            }
            match self.hung_up.as_mut().is_some_and(is_there) {
                true => core::task::Poll::Ready(Interrupt::HungUp),
                false => core::task::Poll::Pending,
            }
        })
        .await
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> Interrupt {
        if tokio::signal::ctrl_c().await.is_err() {
            core::future::pending::<()>().await;
        }
        Interrupt::Asked
    }

    /// The next one of somebody who insists.
    pub(crate) async fn asked(&mut self) {
        while self.next().await != Interrupt::Asked {}
    }
}

/// Waits until the process is told to stop.
pub(crate) async fn interrupted() {
    Interrupts::new().next().await;
}

/// Started by `nohup`, which is to be respected. Only Linux tells without unsafe code.
#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hang_up(&status)
}

/// `SigIgn` is a mask in hexadecimal, with signal 1 in its lowest bit.
#[cfg(unix)]
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn mask_of_ignored_signals_is_read() {
        let status =
            |mask: &str| format!("Name:\tspark\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        assert!(ignores_hang_up(&status("0000000000001001")));
        assert!(!ignores_hang_up(&status("0000000000001000")));
        assert!(!ignores_hang_up("") && !ignores_hang_up(&status("x")));
    }
}
