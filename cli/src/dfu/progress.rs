//! One bar each for erasing, writing and reading back, as soon as there is something to show.

use crate::ui::Ui;
use core::cell::RefCell;
use indicatif::{MultiProgress, ProgressBar};
use spark_dfu::host::{Plan, Progress};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// The bars of one memory, and what they counted.
pub(super) struct Bars {
    ui: Ui,
    all: MultiProgress,
    pages: u64,
    bars: RefCell<[Option<ProgressBar>; 3]>,
    pub(super) counts: Counts,
}

/// What was done to one memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) pages_erased: u64,
    pub(super) mass_erased: bool,
    pub(super) bytes_written: u64,
    pub(super) bytes_unchanged: u64,
    pub(super) bytes_verified: u64,
}

const NAMES: [&str; 3] = ["erase (pages)", "write (bytes)", "verify (bytes)"];

impl Bars {
    pub(super) fn new(ui: &Ui, plan: Option<&Plan<'_>>) -> Self {
        let pages = plan.map_or(0, |plan| plan.units().filter(|unit| unit.erase).count());
        Self {
            ui: ui.clone(),
            all: ui.bars(),
            pages: u64::try_from(pages).unwrap_or(u64::MAX),
            bars: RefCell::default(),
            counts: Counts::default(),
        }
    }

    fn show(&self, which: usize, position: u64, total: u64) {
        let mut bars = self.bars.borrow_mut();
        let Some(bar) = bars.get_mut(which) else { return };
        let name = NAMES.get(which).copied().unwrap_or_default();
        bar.get_or_insert_with(|| self.all.add(self.ui.bar(name, total))).set_position(position);
    }

    pub(super) fn take(&mut self, progress: Progress) {
        match progress {
            Progress::Erased { .. } => {
                self.counts.pages_erased += 1;
                self.show(0, self.counts.pages_erased, self.pages);
            }
            Progress::MassErased => self.counts.mass_erased = true,
            Progress::Written { done, total } => {
                self.counts.bytes_written = done.saturating_sub(self.counts.bytes_unchanged);
                self.show(1, done, total);
            }
            Progress::Unchanged { done, total } => {
                self.counts.bytes_unchanged = done.saturating_sub(self.counts.bytes_written);
                self.show(1, done, total);
            }
            Progress::Verified { done, total } => {
                self.counts.bytes_verified = done;
                self.show(2, done, total);
            }
            Progress::Read { done, total } => self.show(1, done, total.unwrap_or(done)),
            _ => {}
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.bars.borrow_mut().iter().flatten() {
            bar.finish_and_clear();
        }
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Says no once Ctrl-C was pressed: the job then ends where the device is in order. Pressed again it ends the program.
pub(crate) fn keep_going() -> bool {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| {
        std::thread::spawn(|| {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                let mut interrupts = crate::interrupt::Interrupts::new();
                interrupts.next().await;
                STOP.store(true, Ordering::Relaxed);
                interrupts.asked().await;
                std::process::exit(74);
            });
        });
    });
    !STOP.load(Ordering::Relaxed)
}
