//! What the cloud counts, in the text format of OpenMetrics that Prometheus reads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A label that says what happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(super) struct Cause {
    cause: &'static str,
}

/// A label that says what kind of thing, and how it ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(super) struct Outcome {
    kind: &'static str,
    result: &'static str,
}

/// The counters.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    pub(super) connections: Counter,
    pub(super) handshakes: Counter,
    pub(super) handshake_seconds: Histogram,
    refused: Family<Cause, Counter>,
    ended: Family<Cause, Counter>,
    pub(super) events: Counter,
    pub(super) events_published: Counter,
    pub(super) events_dropped: Counter,
    pub(super) subscriptions_refused: Counter,
    calls: Family<Outcome, Counter>,
    pub(super) call_seconds: Histogram,
    updates: Family<Cause, Counter>,
    pub(super) update_bytes: Counter,
    pub(super) update_resent: Counter,
    pub(super) requests: Counter,
    pub(super) requests_refused: Counter,
    online: Gauge,
    open: Gauge,
    half_open: Gauge,
    work: Gauge,
    missed: Gauge,
    watchers: Gauge,
}

/// What is looked up when somebody asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Levels {
    pub(super) online: usize,
    pub(super) open: usize,
    pub(super) half_open: usize,
    pub(super) work: usize,
    pub(super) missed: u64,
    pub(super) watchers: usize,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("spark_cloud"),
            connections: Counter::default(),
            handshakes: Counter::default(),
            // 0.5 ms to 16 s.
            handshake_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            refused: Family::default(),
            ended: Family::default(),
            events: Counter::default(),
            events_published: Counter::default(),
            events_dropped: Counter::default(),
            subscriptions_refused: Counter::default(),
            calls: Family::default(),
            call_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            updates: Family::default(),
            update_bytes: Counter::default(),
            update_resent: Counter::default(),
            requests: Counter::default(),
            requests_refused: Counter::default(),
            online: Gauge::default(),
            open: Gauge::default(),
            half_open: Gauge::default(),
            work: Gauge::default(),
            missed: Gauge::default(),
            watchers: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("connections", "Connections taken", self.connections.clone());
        registry.register("handshakes", "Handshakes that came to Hello", self.handshakes.clone());
        registry.register_with_unit(
            "handshake",
            "Time from accept to Hello",
            Unit::Seconds,
            self.handshake_seconds.clone(),
        );
        registry.register("refused", "Connections that ended before Hello, by cause", self.refused.clone());
        registry.register("ended", "Connections that ended after Hello, by cause", self.ended.clone());
        registry.register("events", "Events from devices", self.events.clone());
        registry.register("events_published", "Events of the owner", self.events_published.clone());
        registry.register("events_dropped", "Events over the limits", self.events_dropped.clone());
        let refused = self.subscriptions_refused.clone();
        registry.register("subscriptions_refused", "Subscriptions over the limits", refused);
        registry.register("calls", "Calls of the owner, by kind and result", self.calls.clone());
        registry.register_with_unit("call", "Time of a call", Unit::Seconds, self.call_seconds.clone());
        registry.register("updates", "Module transfers, by result", self.updates.clone());
        registry.register("update_bytes", "Bytes of modules that arrived", self.update_bytes.clone());
        registry.register("update_chunks_resent", "Chunks sent again", self.update_resent.clone());
        registry.register("http_requests", "Requests to the HTTP interface", self.requests.clone());
        let refused = self.requests_refused.clone();
        registry.register("http_requests_refused", "Those without the token", refused);
        registry.register("devices_online", "Devices that are connected", self.online.clone());
        registry.register("connections_open", "Open connections", self.open.clone());
        registry.register("connections_half_open", "Of them, before Hello", self.half_open.clone());
        registry.register("work_waiting", "RSA jobs that wait or run", self.work.clone());
        let missed = self.missed.clone();
        registry.register("events_missed", "Events that slow devices did not get", missed);
        registry.register("watchers", "Open event streams", self.watchers.clone());
    }

    /// A connection ended before its device was known.
    pub(super) fn refuse(&self, cause: &'static str) {
        self.refused.get_or_create(&Cause { cause }).inc();
    }

    /// A device's connection ended.
    pub(super) fn end(&self, cause: &'static str) {
        self.ended.get_or_create(&Cause { cause }).inc();
    }

    /// A call ended.
    pub(super) fn call(&self, kind: &'static str, result: &'static str, seconds: f64) {
        self.calls.get_or_create(&Outcome { kind, result }).inc();
        self.call_seconds.observe(seconds);
    }

    /// A module transfer ended.
    pub(super) fn update(&self, cause: &'static str) {
        self.updates.get_or_create(&Cause { cause }).inc();
    }

    /// All of it as text.
    pub(super) fn text(&self, levels: Levels) -> String {
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.online, levels.online);
        set(&self.open, levels.open);
        set(&self.half_open, levels.half_open);
        set(&self.work, levels.work);
        set(&self.watchers, levels.watchers);
        self.missed.set(i64::try_from(levels.missed).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
