//! Events from one device to the others, and to those who watch: who wants an event is found by the beginnings of its name,
//! whatever the number of devices.

use super::Relayed;
use super::session::Subscription;
use coap_spark::handshake::DeviceId;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;
use tokio::sync::{broadcast, mpsc};

/// Events that a slow watcher may be behind before it misses some.
const STREAM: usize = 4096;

/// An event as watchers see it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Streamed {
    /// The event.
    pub event: Relayed,
    /// When it came.
    pub at: SystemTime,
}

type Mailboxes = HashMap<u64, Vec<(Subscription, mpsc::Sender<Arc<Relayed>>)>>;

/// Who wants what.
#[derive(Debug)]
pub(super) struct Router {
    /// By prefix, by connection.
    subscribers: RwLock<HashMap<String, Mailboxes>>,
    /// How many prefixes there are of which length.
    lengths: RwLock<BTreeMap<usize, usize>>,
    streams: broadcast::Sender<Arc<Streamed>>,
    /// Events that a device did not get because it had too many waiting.
    missed: AtomicU64,
}

impl Router {
    pub(super) fn new() -> Self {
        Self {
            subscribers: RwLock::default(),
            lengths: RwLock::default(),
            streams: broadcast::Sender::new(STREAM),
            missed: AtomicU64::new(0),
        }
    }

    /// Everything that is published from now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<Arc<Streamed>> {
        self.streams.subscribe()
    }

    pub(super) fn watchers(&self) -> usize {
        self.streams.receiver_count()
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    pub(super) fn subscribe(
        &self,
        connection: u64,
        subscription: Subscription,
        mailbox: mpsc::Sender<Arc<Relayed>>,
    ) {
        let prefix = subscription.prefix.clone();
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        if !subscribers.contains_key(&prefix) {
            let mut lengths = self.lengths.write().unwrap_or_else(PoisonError::into_inner);
            *lengths.entry(prefix.len()).or_default() += 1;
        }
        let mailboxes = subscribers.entry(prefix).or_default();
        mailboxes.entry(connection).or_default().push((subscription, mailbox));
    }

    pub(super) fn unsubscribe(&self, connection: u64, prefixes: &[String]) {
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        for prefix in prefixes {
            let Some(mailboxes) = subscribers.get_mut(prefix) else { continue };
            mailboxes.remove(&connection);
            if mailboxes.is_empty() {
                subscribers.remove(prefix);
                let mut lengths = self.lengths.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(count) = lengths.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        lengths.remove(&prefix.len());
                    }
                }
            }
        }
    }

    /// Gives an event to the devices that want it, and to watchers.
    pub(super) fn publish(&self, event: Relayed) {
        let event = Arc::new(event);
        let mut given = HashSet::new();
        {
            let subscribers = self.subscribers.read().unwrap_or_else(PoisonError::into_inner);
            let lengths = self.lengths.read().unwrap_or_else(PoisonError::into_inner);
            let prefixes = lengths.keys().take_while(|len| **len <= event.name.len());
            for mailboxes in
                prefixes.filter_map(|len| event.name.get(..*len)).filter_map(|prefix| subscribers.get(prefix))
            {
                for (connection, wants) in mailboxes {
                    let wanted = wants.iter().find(|(subscription, _)| subscription.wants(&event));
                    // A device with two fitting subscriptions gets it once.
                    if let Some((_, mailbox)) = wanted
                        && given.insert(*connection)
                        && mailbox.try_send(Arc::clone(&event)).is_err()
                    {
                        self.missed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        self.stream(Relayed::clone(&event));
    }

    /// Shows an event to watchers only.
    pub(super) fn stream(&self, event: Relayed) {
        if self.streams.receiver_count() != 0 {
            // The last one may just have gone.
            let _ = self.streams.send(Arc::new(Streamed { event, at: SystemTime::now() }));
        }
    }

    /// An event of the cloud about a device, for watchers.
    pub(super) fn announce(&self, device: DeviceId, name: &str, data: &str) {
        self.stream(Relayed {
            device: Some(device),
            name: name.to_owned(),
            data: Some(data.as_bytes().to_vec()),
            max_age: Some(60),
            public: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::Whose;
    use super::*;

    fn event(name: &str, public: bool) -> Relayed {
        Relayed { device: Some(DeviceId([7; 12])), name: name.to_owned(), data: None, max_age: None, public }
    }

    fn subscription(prefix: &str, whose: Whose) -> Subscription {
        Subscription { prefix: prefix.to_owned(), whose }
    }

    #[test]
    fn event_reaches_each_connection_that_wants_it_once() {
        let router = Router::new();
        let (to_first, mut first) = mpsc::channel(8);
        let (to_second, mut second) = mpsc::channel(8);
        router.subscribe(1, subscription("", Whose::Mine), to_first.clone());
        router.subscribe(1, subscription("room", Whose::Mine), to_first);
        router.subscribe(2, subscription("room/t", Whose::All), to_second);
        router.publish(event("room/temp", false));
        router.publish(event("room/temp", true));
        router.publish(event("r", true));
        router.publish(event("", true));
        let names = |mailbox: &mut mpsc::Receiver<Arc<Relayed>>| {
            core::iter::from_fn(|| mailbox.try_recv().ok())
                .map(|event| event.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&mut first), ["room/temp", "room/temp", "r", ""]);
        assert_eq!(names(&mut second), ["room/temp"], "private events are the owner's");

        router.unsubscribe(1, &[String::new(), "room".to_owned()]);
        router.publish(event("room/temp", true));
        assert!(names(&mut first).is_empty());
        assert_eq!(names(&mut second).len(), 1);
        router.unsubscribe(2, &["room/t".to_owned()]);
        assert!(router.subscribers.read().unwrap().is_empty());
        assert!(router.lengths.read().unwrap().is_empty());
    }

    #[test]
    fn names_are_cut_between_characters_only() {
        let router = Router::new();
        let (mailbox, mut received) = mpsc::channel(8);
        router.subscribe(1, subscription("a", Whose::Mine), mailbox);
        router.publish(event("\u{e4}", true));
        assert!(received.try_recv().is_err());
    }

    #[test]
    fn full_mailbox_misses_events_and_they_are_counted() {
        let router = Router::new();
        let (mailbox, mut received) = mpsc::channel(1);
        router.subscribe(1, subscription("", Whose::Mine), mailbox);
        for _ in 0..3 {
            router.publish(event("x", true));
        }
        assert!(received.try_recv().is_ok());
        assert_eq!(router.missed(), 2);
    }
}
