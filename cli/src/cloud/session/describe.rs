//! A device's description of itself: in parts, whole, unasked, or none at all.

use super::{CallError, Phase, Session};
use crate::cloud::Event;
use crate::cloud::plan::Plan;
use coap_spark::message::describe::Describe;
use core::time::Duration;

/// Firmware 0.4.x answers Describe in two parts, one right after the other; an old Core's answer is never whole.
const PARTS_PATIENCE: Duration = Duration::from_secs(3);
const MAX_PARTS: u8 = 4;
/// A device whose update waits is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Descriptions that a device sends without being asked are looked at this often.
const POST_INTERVAL: Duration = Duration::from_secs(5);

impl Session {
    /// A description that nobody asked for: whole, or none at all.
    pub(super) fn take_post(&mut self, now: Duration, payload: &[u8]) {
        if self.posted.is_some_and(|posted| now < posted + POST_INTERVAL) {
            return;
        }
        if let Ok(describe) = Describe::from_json(payload)
            && describe.modules.is_some()
        {
            self.posted = Some(now);
            self.finish_describe(now, describe);
        }
    }

    pub(super) fn take_describe(&mut self, now: Duration, payload: &[u8]) {
        match Describe::from_json(payload) {
            Ok(mut describe) => {
                core::mem::swap(&mut self.describe, &mut describe);
                // Old firmware sends application and system part as two documents.
                self.describe.merge(describe);
                self.parts += 1;
            }
            Err(error) => {
                self.answer_describe(&Err(CallError::Malformed(error.to_string())));
                self.give_up_describe(now, error.to_string());
                return;
            }
        }
        if self.describe.modules.is_some() || self.parts >= MAX_PARTS {
            self.finish_parts(now);
        } else if let Phase::Asked { until, .. } = &mut self.phase {
            *until = Some(now + PARTS_PATIENCE);
        }
    }

    /// All parts of the answer are there. A Core tells functions and variables and no modules.
    pub(super) fn finish_parts(&mut self, now: Duration) {
        self.parts = 0;
        let describe = core::mem::take(&mut self.describe);
        self.finish_describe(now, describe);
    }

    fn finish_describe(&mut self, now: Duration, describe: Describe) {
        self.known = describe.clone();
        self.answer_describe(&Ok(describe.clone()));
        self.events.push_back(Event::Described { device: self.id, describe: describe.clone() });
        self.phase = Phase::Idle { ask_at: None };
        self.decide(now, &describe);
    }

    /// There is no description. An update that waits for one asks again later.
    pub(super) fn give_up_describe(&mut self, now: Duration, reason: String) {
        (self.describe, self.parts) = (Describe::default(), 0);
        let waits = self.plan.as_ref().is_some_and(Plan::is_running);
        self.phase = Phase::Idle { ask_at: waits.then_some(now + ASK_AGAIN) };
        self.events.push_back(Event::CannotUpdate { device: self.id, reason });
    }
}
