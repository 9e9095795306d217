//! Places for connections, and who gives way when all are taken.
//!
//! A stranger may open as many connections as it likes and say nothing. When there is no place left, the connection that was
//! silent longest loses its own, of those that have asked for nothing yet; who has asked keeps it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// All places.
pub(super) struct Places {
    limit: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    count: usize,
    next: u64,
    /// Who has asked for nothing yet, in the order in which they were heard last; and how they are told to go.
    silent: BTreeMap<u64, Arc<Notify>>,
}

impl Taken {
    fn enter(&mut self, way: &Arc<Notify>) -> u64 {
        self.next += 1;
        self.silent.insert(self.next, Arc::clone(way));
        self.next
    }
}

impl Places {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default(), freed: Notify::new() })
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // A panic elsewhere has left it whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places that are taken.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// A place, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        let mut has_asked = false;
        loop {
            if let Some(place) = self.free() {
                return place;
            }
            // One goes for each that comes.
            has_asked = has_asked || self.make_room();
            self.freed.notified().await;
        }
    }

    fn free(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.count >= self.limit {
            return None;
        }
        taken.count += 1;
        let way = Arc::new(Notify::new());
        let turn = taken.enter(&way);
        drop(taken);
        Some(Place { places: Arc::clone(self), turn: Some(turn), way, heard: Instant::now() })
    }

    /// Lets the one go that was silent longest; `false` if all have asked for something.
    pub(super) fn make_room(&self) -> bool {
        let longest = self.lock().silent.pop_first();
        longest.map(|(_, way)| way.notify_one()).is_some()
    }
}

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    /// In the order of those who have asked for nothing yet.
    turn: Option<u64>,
    way: Arc<Notify>,
    heard: Instant,
}

impl Place {
    /// Ends when another connection gets this place.
    pub(super) async fn is_wanted(&self) {
        self.way.notified().await;
    }

    /// How long nothing was heard.
    pub(super) fn silence(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
        let mut taken = self.places.lock();
        // Who was told to go is not there any more.
        if self.turn.is_some_and(|turn| taken.silent.remove(&turn).is_some()) {
            self.turn = Some(taken.enter(&self.way));
        }
    }

    /// It has asked for something, and keeps its place; `false` if that is another's already.
    pub(super) fn keep(&mut self) -> bool {
        self.turn.take().is_none_or(|turn| self.places.lock().silent.remove(&turn).is_some())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.count = taken.count.saturating_sub(1);
        if let Some(turn) = self.turn {
            taken.silent.remove(&turn);
        }
        drop(taken);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;
    use tokio::time::{sleep, timeout};

    const MOMENT: Duration = Duration::from_millis(10);

    async fn is_wanted(place: &Place) -> bool {
        timeout(MOMENT, place.is_wanted()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_silent_longest_gives_way() {
        let places = Places::new(3);
        let mut first = places.take().await;
        let (second, third) = (places.take().await, places.take().await);
        sleep(Duration::from_secs(3)).await;
        first.heard();
        let mut fourth = pin!(places.take());
        assert!(timeout(MOMENT, &mut fourth).await.is_err());
        assert!(is_wanted(&second).await && !is_wanted(&first).await && !is_wanted(&third).await);
        assert!(second.silence() >= Duration::from_secs(3) && first.silence() < Duration::from_secs(1));
        // Only when it has gone, so that there are never more.
        assert_eq!(places.count(), 3);
        drop(second);
        let fourth = fourth.await;
        assert_eq!(places.count(), 3);
        // And no other for the same newcomer.
        assert!(!is_wanted(&first).await && !is_wanted(&third).await && !is_wanted(&fourth).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_keeps_its_place() {
        let places = Places::new(2);
        let (mut first, mut second) = (places.take().await, places.take().await);
        assert!(first.keep() && second.keep() && second.keep());
        // What comes later does not put it back.
        first.heard();
        let mut third = pin!(places.take());
        assert!(timeout(MOMENT, &mut third).await.is_err());
        assert!(!is_wanted(&first).await && !is_wanted(&second).await);
        drop(first);
        drop(third.await);
        assert_eq!(places.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_to_go_cannot_ask_any_more() {
        let places = Places::new(1);
        let mut first = places.take().await;
        assert!(places.make_room());
        first.heard();
        assert!(!first.keep());
        assert!(!places.make_room());
        drop(first);
        assert_eq!(places.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn several_newcomers_need_as_many_places() {
        let places = Places::new(2);
        let (first, second) = (places.take().await, places.take().await);
        let newcomers: Vec<_> = (0..2)
            .map(|_| {
                let places = Arc::clone(&places);
                tokio::spawn(async move { places.take().await })
            })
            .collect();
        sleep(MOMENT).await;
        assert!(is_wanted(&first).await && is_wanted(&second).await);
        drop((first, second));
        for newcomer in newcomers {
            // Kept to the end, or one place would do.
            core::mem::forget(newcomer.await.unwrap());
        }
        assert_eq!(places.count(), 2);
    }
}
