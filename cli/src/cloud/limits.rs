//! What strangers may cost: places, rates and times. Every refusal has a cause, for the log and the counters.

use coap_spark::handshake::server::IDENTITY_TIMEOUT;
use core::num::NonZeroU32;
use core::time::Duration;
use governor::clock::DefaultClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Addresses whose rate is remembered; beyond it those that were not heard lately are forgotten.
const MAX_ADDRESSES: usize = 65_536;

/// Bounds of a cloud. Each is configurable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at the same time, those of strangers included.
    pub connections: usize,
    /// Of these, connections that have not said Hello yet.
    pub half_open: usize,
    /// How long a stranger keeps its place at least while others wait for one.
    pub half_open_grace: Duration,
    /// Connections accepted per second.
    pub accepts: NonZeroU32,
    /// The same from one address (one /64 network for IPv6).
    pub accepts_per_address: NonZeroU32,
    /// RSA jobs that run or wait.
    pub work_queue: usize,
    /// How long a stranger may take to say who it is.
    pub identity_timeout: Duration,
    /// Answers and events that wait for one device.
    pub mailbox: usize,
}

impl Limits {
    /// For a server of its own and devices anywhere. A burst may be four times the rate.
    pub const DEFAULT: Self = Self {
        connections: 16_384,
        half_open: 1024,
        half_open_grace: Duration::from_secs(2),
        accepts: NonZeroU32::new(1000).unwrap(),
        accepts_per_address: NonZeroU32::new(250).unwrap(),
        work_queue: 2048,
        identity_timeout: IDENTITY_TIMEOUT,
        mailbox: 64,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a connection was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Turned {
    /// All places are taken.
    Full,
    /// Too many connections per second.
    Rate,
    /// Too many per second from this address.
    AddressRate,
}

impl Turned {
    /// A stable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Full => "connections-full",
            Self::Rate => "rate",
            Self::AddressRate => "address-rate",
        }
    }

    /// In words.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Full => "as many connections as allowed are open",
            Self::Rate => "too many connections per second",
            Self::AddressRate => "too many connections per second from this address",
        }
    }
}

/// Watches over the door.
#[derive(Debug)]
pub(super) struct Door {
    limits: Limits,
    connections: Arc<Semaphore>,
    half_open: Arc<Semaphore>,
    rate: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    per_address: RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, DefaultClock>,
    strangers: Arc<Mutex<Strangers>>,
}

#[derive(Debug, Default)]
struct Strangers {
    next: u64,
    waiting: HashMap<u64, Stranger>,
}

#[derive(Debug)]
struct Stranger {
    address: IpAddr,
    since: Instant,
    /// It waits for us, not we for it.
    served: bool,
    leave: oneshot::Sender<()>,
}

/// A place among those who have not said Hello. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) seat: Seat,
    /// Resolves when somebody else needs the place more.
    pub(super) evicted: oneshot::Receiver<()>,
    _place: OwnedSemaphorePermit,
}

/// Which place it is.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    strangers: Arc<Mutex<Strangers>>,
}

impl Seat {
    /// Whoever waits for us cannot be told that it takes too long. Its time begins anew when it is served.
    pub(super) fn set_served(&self, served: bool) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stranger) = strangers.waiting.get_mut(&self.number) {
            (stranger.served, stranger.since) = (served, Instant::now());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&self.number);
    }
}

impl Door {
    pub(super) fn new(limits: Limits) -> Self {
        let burst = |rate: NonZeroU32| Quota::per_second(rate).allow_burst(rate.saturating_mul(FOUR));
        Self {
            connections: Arc::new(Semaphore::new(limits.connections)),
            half_open: Arc::new(Semaphore::new(limits.half_open)),
            rate: RateLimiter::direct(burst(limits.accepts)),
            per_address: RateLimiter::keyed(burst(limits.accepts_per_address)),
            strangers: Arc::default(),
            limits,
        }
    }

    /// Connections, and how many of them have not said Hello.
    pub(super) fn load(&self) -> (usize, usize) {
        let open = self.limits.connections.saturating_sub(self.connections.available_permits());
        // The listener holds a place for whoever comes next.
        (open, self.strangers.lock().unwrap_or_else(PoisonError::into_inner).waiting.len())
    }

    /// A place for a new connection from this address.
    pub(super) fn admit(&self, address: IpAddr) -> Result<OwnedSemaphorePermit, Turned> {
        let address = network(address);
        if self.per_address.len() > MAX_ADDRESSES {
            self.per_address.retain_recent();
        }
        // The address first: one that floods must not use up what is there for all.
        self.per_address.check_key(&address).map_err(|_| Turned::AddressRate)?;
        self.rate.check().map_err(|_| Turned::Rate)?;
        Arc::clone(&self.connections).try_acquire_owned().map_err(|_| Turned::Full)
    }

    /// A place among those who have not said Hello. While all are taken, new connections wait in the listener's queue, and
    /// the address that holds most places has to give up those that it has held for some time.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            let free = Arc::clone(&self.half_open).acquire_owned();
            match tokio::time::timeout(Duration::from_millis(100), free).await {
                Ok(Ok(place)) => return place,
                Ok(Err(_)) => core::future::pending().await,
                Err(_) => self.evict(),
            }
        }
    }

    pub(super) fn seat(&self, address: IpAddr, place: OwnedSemaphorePermit) -> Place {
        let (leave, evicted) = oneshot::channel();
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let number = strangers.next;
        strangers.next += 1;
        let stranger = Stranger { address: network(address), since: Instant::now(), served: false, leave };
        strangers.waiting.insert(number, stranger);
        Place { seat: Seat { number, strangers: Arc::clone(&self.strangers) }, evicted, _place: place }
    }

    fn evict(&self) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        for stranger in strangers.waiting.values() {
            *by_address.entry(stranger.address).or_default() += 1;
        }
        let late =
            |stranger: &Stranger| !stranger.served && stranger.since.elapsed() >= self.limits.half_open_grace;
        // All of one address at once: it is to hold no more than it can fill in that time.
        let busiest = strangers
            .waiting
            .values()
            .filter(|stranger| late(stranger))
            .map(|stranger| stranger.address)
            .max_by_key(|address| by_address.get(address).copied().unwrap_or(0));
        let leaving: Vec<u64> = strangers
            .waiting
            .iter()
            .filter(|(_, stranger)| Some(stranger.address) == busiest && late(stranger))
            .map(|(number, _)| *number)
            .collect();
        for stranger in leaving.iter().filter_map(|number| strangers.waiting.remove(number)) {
            // It may be leaving by itself.
            let _ = stranger.leave.send(());
        }
    }
}

const FOUR: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// One customer of a provider has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        },
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(change: impl FnOnce(&mut Limits)) -> Door {
        let mut limits = Limits::DEFAULT;
        change(&mut limits);
        Door::new(limits)
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn places_rates_and_addresses_have_each_their_own_limit() {
        let two = NonZeroU32::new(2).unwrap();
        let door = door(|limits| (limits.accepts_per_address, limits.connections) = (two, 9));
        let mut taken: Vec<_> = (0..8).map(|_| door.admit(HERE).unwrap()).collect();
        assert_eq!(door.admit(HERE).unwrap_err(), Turned::AddressRate);
        taken.push(door.admit(THERE).unwrap());
        assert_eq!(door.load(), (9, 0));
        assert_eq!(door.admit(THERE).unwrap_err(), Turned::Full);
        taken.clear();
        assert!(door.admit(THERE).is_ok());

        let all = self::door(|limits| limits.accepts = two);
        let mapped = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, last, 0, 0, 0, 1]);
        assert!((0..8).all(|last| all.admit(mapped(last)).is_ok()));
        assert_eq!(all.admit(mapped(8)).unwrap_err(), Turned::Rate);
    }

    #[test]
    fn neighbours_in_one_network_are_one_address() {
        let one = IpAddr::from([0x2001, 0xdb8, 0, 1, 1, 2, 3, 4]);
        let other = IpAddr::from([0x2001, 0xdb8, 0, 1, 5, 6, 7, 8]);
        assert_eq!(network(one), network(other));
        assert_eq!(network(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201])), THERE);
    }

    #[tokio::test]
    async fn busiest_address_gives_up_what_it_holds_too_long() {
        let door = door(|limits| (limits.half_open, limits.half_open_grace) = (3, Duration::ZERO));
        let mut first = door.seat(THERE, door.place().await);
        let mut second = door.seat(HERE, door.place().await);
        let mut third = door.seat(HERE, door.place().await);
        assert_eq!(door.load().1, 3);
        door.evict();
        assert!(second.evicted.try_recv().is_ok() && third.evicted.try_recv().is_ok());
        assert!(first.evicted.try_recv().is_err());
        drop((second, third));
        let fourth = tokio::time::timeout(Duration::from_secs(5), door.place()).await.unwrap();
        assert_eq!(door.load().1, 1, "who has no connection yet is no stranger");
        let fourth = door.seat(THERE, fourth);
        assert_eq!(door.load().1, 2);
        drop(fourth);
    }

    #[tokio::test]
    async fn who_waits_for_us_keeps_its_place() {
        let door = door(|limits| (limits.half_open, limits.half_open_grace) = (2, Duration::ZERO));
        let mut first = door.seat(HERE, door.place().await);
        let mut second = door.seat(HERE, door.place().await);
        first.seat.set_served(true);
        second.seat.set_served(true);
        door.evict();
        assert!(first.evicted.try_recv().is_err() && second.evicted.try_recv().is_err());
        first.seat.set_served(false);
        door.evict();
        assert!(first.evicted.try_recv().is_ok() && second.evicted.try_recv().is_err());
    }
}
