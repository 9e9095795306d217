//! What the cloud's operator reads: one line for each thing worth knowing, and each kind of trouble once, however often it comes.

use super::Event;
use coap_spark::handshake::DeviceId;
use core::time::Duration;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

/// The same trouble is told again after this time, with how often it came.
const AGAIN: Duration = Duration::from_secs(600);
/// Kinds of trouble that are remembered at once.
const MAX_TROUBLES: usize = 1024;

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
#[non_exhaustive]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends log lines to standard error. `level` is a level (`info`), or a filter as of `RUST_LOG`.
///
/// # Errors
/// What is wrong with `level`.
pub fn start(format: Format, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("{level:?}: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A program has one log; a test that starts it twice keeps the first.
    let _ = match format {
        Format::Text => {
            use std::io::IsTerminal;
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
        Format::Json => builder.json().flatten_event(true).with_target(false).try_init(),
    };
    Ok(())
}

/// A kind of trouble: what it is, and of whom.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Whose {
    Device(DeviceId),
    Address(Option<IpAddr>),
    Cloud(String),
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    since: u64,
}

/// Turns events into lines.
#[derive(Debug, Default)]
pub struct Logbook {
    told: HashMap<(&'static str, Whose), Told>,
}

impl Logbook {
    /// Whether to tell of a trouble now, and how often it came untold.
    fn is_news(&mut self, now: Instant, cause: &'static str, whose: Whose) -> Option<u64> {
        if let Some(told) = self.told.get_mut(&(cause, whose.clone())) {
            if now.duration_since(told.at) < AGAIN {
                told.since += 1;
                return None;
            }
            let since = told.since;
            *told = Told { at: now, since: 0 };
            return Some(since);
        }
        if self.told.len() >= MAX_TROUBLES {
            self.told.retain(|_, told| now.duration_since(told.at) < AGAIN);
        }
        if self.told.len() >= MAX_TROUBLES && whose != Whose::Address(None) {
            // Too many kinds at once, as when addresses are forged: one line for all of them.
            return self.is_news(now, cause, Whose::Address(None));
        }
        self.told.insert((cause, whose), Told { at: now, since: 0 });
        Some(0)
    }

    /// Writes an event down.
    pub fn write(&mut self, event: &Event) {
        self.write_at(Instant::now(), event);
    }

    fn write_at(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Refused { device: id, address, cause, reason, advice } => {
                let whose = match id {
                    // Strangers choose their ids; that no more of them are kept is one thing, not one of each.
                    Some(id) if *cause != "store" => Whose::Device(*id),
                    _ => Whose::Address(address.map(|address| address.ip())),
                };
                let Some(before) = self.is_news(now, cause, whose) else { return };
                let (id, address) = (id.map(tracing::field::display), address.map(tracing::field::display));
                let before = (before != 0).then_some(before);
                warn!(device = id, address, cause, untold = before, next = %advice, "refused: {reason}");
            }
            Event::Trouble { what } => {
                let Some(before) = self.is_news(now, "trouble", Whose::Cloud(what.clone())) else { return };
                error!(untold = (before != 0).then_some(before), "{what}");
            }
            Event::CannotUpdate { device: id, reason } => {
                if self.is_news(now, "cannot-update", Whose::Device(*id)).is_some() {
                    warn!(device = %id, "cannot be updated: {reason}");
                }
            }
            Event::EventDropped { device: id, .. } => {
                if self.is_news(now, "event-dropped", Whose::Device(*id)).is_some() {
                    warn!(device = %id, "{}", words(event));
                }
            }
            Event::SubscriptionRefused { device: id, .. } => {
                if self.is_news(now, "subscription-refused", Whose::Device(*id)).is_some() {
                    warn!(device = %id, "{}", words(event));
                }
            }
            Event::Online { device: id, .. }
            | Event::UpdateStarted { device: id, .. }
            | Event::UpdateFinished { device: id, .. }
            | Event::PlanChanged { device: id, .. }
            | Event::ClaimCode { device: id, .. } => info!(device = %id, "{}", words(event)),
            Event::Offline { device: id, cause, .. } => info!(device = %id, cause, "{}", words(event)),
            // The program says so in more words.
            Event::Started { .. } => {}
            Event::Published { device: id, .. }
            | Event::Described { device: id, .. }
            | Event::UpToDate { device: id }
            | Event::Goodbye { device: id, .. }
            | Event::WantsRandom { device: id }
            | Event::UpdateProgress { device: id, .. } => debug!(device = %id, "{}", words(event)),
        }
    }
}

/// An event in words, without the device in front.
fn words(event: &Event) -> String {
    let text = event.to_string();
    match text.split_once(": ") {
        Some((id, rest)) if id.len() == 24 => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_trouble_is_told_once_and_then_counted() {
        let (mut book, start) = (Logbook::default(), Instant::now());
        let device = |last| Whose::Device(DeviceId([last; 12]));
        assert_eq!(book.is_news(start, "no-identity", device(1)), Some(0));
        for _ in 0..5 {
            assert_eq!(book.is_news(start, "no-identity", device(1)), None);
        }
        assert_eq!(book.is_news(start, "no-identity", device(2)), Some(0));
        assert_eq!(book.is_news(start, "bad-counter", device(1)), Some(0));
        assert_eq!(book.is_news(start + AGAIN, "no-identity", device(1)), Some(5));
        assert_eq!(book.is_news(start + AGAIN, "no-identity", device(1)), None);
    }

    #[test]
    fn kinds_of_trouble_are_bounded_and_a_flood_of_new_ones_is_one_line() {
        let (mut book, start) = (Logbook::default(), Instant::now());
        let address = |at: u32| Whose::Address(Some(IpAddr::V4(at.into())));
        let told =
            (0..100_000).filter(|at| book.is_news(start, "no-identity", address(*at)).is_some()).count();
        assert_eq!(told, MAX_TROUBLES + 1);
        assert!(book.told.len() <= MAX_TROUBLES + 1);
    }
}
