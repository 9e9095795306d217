//! Many simulated Photons in one process: to load a server, and to measure it.
//!
//! Devices share one flash image in memory; each has what is its own: some kilobytes. All run as tasks of the runtime that
//! [`Fleet::start`] is called on; their RSA work is done on its blocking pool, one operation a processor.
//!
//! ```no_run
//! # async fn example(server_key: [u8; 294]) -> Result<(), spark_cli::exit::Failure> {
//! use core::time::Duration;
//! use spark_cli::device::fleet::{Fleet, Keys, Orders, Recipe};
//! use spark_cli::device::program::Periodic;
//!
//! let key = spark_keys::rsa_backend::generate_device_key(&mut rand::rng()).map_err(|_| ()).expect("a key");
//! let fleet = Fleet::new(&Recipe::new(10_000, server_key, Keys::Shared(Box::new(key))), &mut rand::rng())?;
//! for (id, public_key) in fleet.devices() {
//!     // Record them at the server.
//! }
//! let mut orders = Orders::new("127.0.0.1:5683");
//! orders.connect_rate = Some(500.0);
//! // The data tells when it was sent, in microseconds since 1970.
//! orders.events = vec![Periodic::new("temperature", "{t}", Duration::from_secs(10))];
//! let running = fleet.start(&orders);
//! running.wait_online(10_000, Duration::from_secs(60)).await;
//! println!("{:?}", running.counts());
//! running.stop().await?;
//! # Ok(())
//! # }
//! ```

use super::folder::DeviceFolder;
use super::life::{Gate, Life, Note, live};
use super::program::Periodic;
use super::report::Report;
use super::run;
use crate::exit::{Code, Failure};
use crate::photons::{self, Mould};
use coap_spark::handshake::DeviceId;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use rand_core::CryptoRng;
use spark_keys::DeviceKey;
use spark_sim::{Application, Firmware, Happening, Photon, Program};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Errors that are kept, the last ones.
const LAST_ERRORS: usize = 64;
/// Times of connecting that are kept, the last ones.
const LAST_TIMES: usize = 65_536;

/// Keys of the devices of a fleet.
#[non_exhaustive]
pub enum Keys {
    /// One for all. For load tests only: whoever has one device's key has every device's.
    Shared(Box<DeviceKey>),
    /// One each; as many as there are devices.
    Own(Vec<DeviceKey>),
}

impl core::fmt::Debug for Keys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Shared(_) => "Shared(secret)",
            Self::Own(_) => "Own(secret)",
        })
    }
}

/// What devices are made of.
#[derive(Debug)]
pub struct Recipe {
    /// How many.
    pub count: usize,
    /// Their server's public key.
    pub server_key: [u8; 294],
    /// Their own.
    pub keys: Keys,
    /// Firmware that they behave as, in turn; none is as the modules in their flash do.
    pub profiles: Vec<&'static Firmware>,
    /// Their application.
    pub program: Arc<Program>,
    /// Id of the first, which the others count on from; otherwise random.
    pub first_id: Option<DeviceId>,
    /// System firmware 0.7.0, too old for the application.
    pub outdated: bool,
}

impl Recipe {
    /// Devices with current modules and Tinker.
    #[must_use]
    pub fn new(count: usize, server_key: [u8; 294], keys: Keys) -> Self {
        Self {
            count,
            server_key,
            keys,
            profiles: Vec::new(),
            program: Arc::default(),
            first_id: None,
            outdated: false,
        }
    }
}

/// What the devices do.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Host and port of the server; otherwise what is in each one's flash.
    pub address: Option<String>,
    /// Connections begun in a second by all together.
    pub connect_rate: Option<f64>,
    /// From the end of a connection to the next.
    pub reconnect_after: Duration,
    /// Each ends after so many.
    pub connections: Option<u32>,
    /// What each publishes. The devices are spread over the period.
    pub events: Vec<Periodic>,
    /// They publish when [`Running::publish`] says so, not from the first moment.
    pub hold_events: bool,
    /// Where each happening is told.
    pub report: Option<Report>,
}

impl Orders {
    /// Stay connected to this server.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self {
            address: Some(address.to_owned()),
            connect_rate: None,
            reconnect_after: Duration::from_secs(1),
            connections: None,
            events: Vec::new(),
            hold_events: false,
            report: None,
        }
    }
}

/// A device of a fleet.
#[derive(Clone, Debug)]
pub struct Member {
    /// The device.
    pub photon: Photon,
    /// Its public key, for the server.
    pub public_key: [u8; 162],
    /// Where it is kept; nowhere if it lives in memory only.
    pub folder: Option<DeviceFolder>,
}

/// Devices that wait for their orders.
#[derive(Debug, Default)]
pub struct Fleet {
    members: Vec<Member>,
}

/// The id that comes `steps` after this one.
pub(super) fn count_on(DeviceId(id): DeviceId, steps: usize) -> DeviceId {
    let [a, b, c, d, rest @ ..] = id;
    let next = u64::from_be_bytes(rest).wrapping_add(steps as u64).to_be_bytes();
    let [e, f, g, h, i, j, k, l] = next;
    DeviceId([a, b, c, d, e, f, g, h, i, j, k, l])
}

impl Fleet {
    /// Makes devices that live in memory.
    ///
    /// # Errors
    /// [`Failure`] if there are fewer keys than devices.
    pub fn new(recipe: &Recipe, rng: &mut dyn CryptoRng) -> Result<Self, Failure> {
        let mould = Mould::new(&recipe.server_key, recipe.outdated)?;
        let shared = match &recipe.keys {
            Keys::Shared(key) => Some((mould.chip(key)?, key.public_key())),
            Keys::Own(keys) if keys.len() >= recipe.count => None,
            Keys::Own(keys) => {
                let what = format!("{} keys are too few for {} devices", keys.len(), recipe.count);
                return Err(Failure::new(Code::Usage, what, "make more keys, or fewer devices"));
            }
        };
        let first = recipe.first_id.unwrap_or_else(|| photons::random_id(rng));
        let members = (0..recipe.count).map(|at| {
            let (flash, public_key) = match (&shared, &recipe.keys) {
                (Some((flash, public_key)), _) => (flash.clone(), *public_key),
                (None, Keys::Own(keys)) => (mould.chip(&keys[at])?, keys[at].public_key()),
                (None, Keys::Shared(key)) => (mould.chip(key)?, key.public_key()),
            };
            let mut photon = Photon::new(count_on(first, at), flash);
            photon
                .set_firmware(recipe.profiles.iter().cycle().nth(at % recipe.profiles.len().max(1)).copied());
            photon.set_application(Application::new(Arc::clone(&recipe.program)));
            Ok(Member { photon, public_key, folder: None })
        });
        Ok(Self { members: members.collect::<Result<_, Failure>>()? })
    }

    /// Takes devices of any kind.
    #[must_use]
    pub const fn of(members: Vec<Member>) -> Self {
        Self { members }
    }

    /// Id and public key of each.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceId, &[u8; 162])> {
        self.members.iter().map(|member| (member.photon.id(), &member.public_key))
    }

    /// Sends them off. Call it on a runtime; a fleet wants one of several threads.
    #[must_use]
    pub fn start(self, orders: &Orders) -> Running {
        let processors = std::thread::available_parallelism().map_or(1, core::num::NonZero::get);
        let jobs = Arc::new(Semaphore::new(processors));
        let gate = orders.connect_rate.map(|rate| Arc::new(Gate::new(rate)));
        let events: Arc<[Periodic]> = orders.events.clone().into();
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = watch::channel(false);
        let (publish, publishing) = watch::channel(!orders.hold_events);
        let count = self.members.len();
        let mut tasks = JoinSet::new();
        for (at, member) in self.members.into_iter().enumerate() {
            let life = Life {
                address: orders.address.clone(),
                reconnect_after: orders.reconnect_after,
                connections: orders.connections,
                events: Arc::clone(&events),
                phase: at as f64 / count as f64,
                publishing: Some(publishing.clone()),
                jobs: Arc::clone(&jobs),
                gate: gate.clone(),
            };
            tasks.spawn(run_member(member, life, stopped.clone(), Arc::clone(&counters), orders.report));
        }
        Running { counters, stop, publish, tasks, count }
    }
}

async fn run_member(
    mut member: Member,
    life: Life,
    stop: watch::Receiver<bool>,
    counters: Arc<Counters>,
    report: Option<Report>,
) -> (Member, Result<(), Failure>) {
    let id = member.photon.id();
    let mut is_online = false;
    let mut began = Instant::now();
    let mut tell = |note: Note<'_>| {
        match note {
            Note::Connecting(_) => began = Instant::now(),
            Note::Online(run::Note::Happening(Happening::Connected)) => counters.connected(began.elapsed()),
            _ => {}
        }
        counters.count(id, &note, &mut is_online);
        if let Some(report) = report {
            report.tell(id, &note);
        }
    };
    let folder = member.folder.clone();
    let mut keep = |photon: &Photon| folder.as_ref().map_or(Ok(()), |folder| folder.keep(photon));
    let result = live(&mut member.photon, &life, stop, &mut tell, &mut keep).await;
    if let Err(failure) = &result {
        counters.error(id, failure.what());
    }
    (member, result)
}

/// What the devices of a fleet have done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// Devices that are connected now: the server's Hello came.
    pub online: u64,
    /// Times that a device came online.
    pub connections: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// Times that no connection was made at all.
    pub unreachable: u64,
    /// Connections that ended after the device had been online.
    pub lost: u64,
    /// Resets, after updates and on request.
    pub resets: u64,
    /// Events published.
    pub published: u64,
    /// Events that the firmware did not let through.
    pub not_published: u64,
    /// Events that the server acknowledged.
    pub acknowledged: u64,
    /// Events received.
    pub events: u64,
    /// Function calls answered.
    pub functions: u64,
    /// Variables sent.
    pub variables: u64,
}

#[derive(Debug, Default)]
struct Counters {
    online: AtomicU64,
    connections: AtomicU64,
    handshakes_failed: AtomicU64,
    unreachable: AtomicU64,
    lost: AtomicU64,
    resets: AtomicU64,
    published: AtomicU64,
    not_published: AtomicU64,
    acknowledged: AtomicU64,
    events: AtomicU64,
    functions: AtomicU64,
    variables: AtomicU64,
    errors: Mutex<VecDeque<(DeviceId, String)>>,
    times: Mutex<VecDeque<Duration>>,
}

impl Counters {
    fn count(&self, id: DeviceId, note: &Note<'_>, is_online: &mut bool) {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match note {
            Note::Online(run::Note::Published { .. }) => add(&self.published),
            Note::Online(run::Note::NotPublished { .. }) => add(&self.not_published),
            Note::Online(run::Note::Happening(happening)) => match happening {
                Happening::Connected => {
                    *is_online = true;
                    add(&self.online);
                    add(&self.connections);
                }
                Happening::FunctionCalled { .. } => add(&self.functions),
                Happening::VariableRead { .. } => add(&self.variables),
                Happening::Event(_) => add(&self.events),
                Happening::Acknowledged(_) => add(&self.acknowledged),
                _ => {}
            },
            Note::CannotConnect(_, error) => {
                add(&self.unreachable);
                self.error(id, &error.to_string());
            }
            Note::Ended(end) => {
                if core::mem::take(is_online) {
                    self.online.fetch_sub(1, Ordering::Relaxed);
                    add(if end.is_reset() { &self.resets } else { &self.lost });
                } else {
                    add(&self.handshakes_failed);
                }
                if !end.is_reset() {
                    let code = end.diagnosis().map(|row| format!(" ({})", row.code));
                    self.error(id, &format!("{end}{}", code.unwrap_or_default()));
                }
            }
            Note::Left if core::mem::take(is_online) => {
                self.online.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn connected(&self, after: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() >= LAST_TIMES {
            times.pop_front();
        }
        times.push_back(after);
    }

    fn error(&self, id: DeviceId, what: &str) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() >= LAST_ERRORS {
            errors.pop_front();
        }
        errors.push_back((id, what.to_owned()));
    }
}

/// A view of a fleet's counters.
#[derive(Clone, Debug)]
pub struct Watch {
    counters: Arc<Counters>,
}

impl Watch {
    /// What they have done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Counts {
            online: get(&counters.online),
            connections: get(&counters.connections),
            handshakes_failed: get(&counters.handshakes_failed),
            unreachable: get(&counters.unreachable),
            lost: get(&counters.lost),
            resets: get(&counters.resets),
            published: get(&counters.published),
            not_published: get(&counters.not_published),
            acknowledged: get(&counters.acknowledged),
            events: get(&counters.events),
            functions: get(&counters.functions),
            variables: get(&counters.variables),
        }
    }

    /// The last errors, oldest first, of all devices.
    #[must_use]
    pub fn last_errors(&self) -> Vec<(DeviceId, String)> {
        self.counters.errors.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// From the beginning of a connection to the server's Hello: the last ones, of all devices.
    #[must_use]
    pub fn connect_times(&self) -> Vec<Duration> {
        self.counters.times.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// A fleet at work.
#[derive(Debug)]
pub struct Running {
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    publish: watch::Sender<bool>,
    tasks: JoinSet<(Member, Result<(), Failure>)>,
    count: usize,
}

impl Running {
    /// Its devices.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// It has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What they have done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.watch().counts()
    }

    /// The last errors, oldest first, of all devices.
    #[must_use]
    pub fn last_errors(&self) -> Vec<(DeviceId, String)> {
        self.watch().last_errors()
    }

    /// A view of the counters that others can have.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { counters: Arc::clone(&self.counters) }
    }

    /// Lets the devices publish their events, or holds these back.
    pub fn publish(&self, publish: bool) {
        // Without a receiver all have ended.
        let _ = self.publish.send(publish);
    }

    /// Waits until so many are online; `false` if that takes longer.
    pub async fn wait_online(&self, count: u64, patience: Duration) -> bool {
        let started = Instant::now();
        while self.counts().online < count {
            if started.elapsed() > patience {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Tells all to leave, and waits until they have.
    ///
    /// # Errors
    /// The first [`Failure`] of a device that had ended before.
    pub async fn stop(mut self) -> Result<Fleet, Failure> {
        // Without a receiver all have ended already.
        let _ = self.stop.send(true);
        self.join().await
    }

    /// Waits until all have ended, which they do after the connections that they were ordered to make.
    ///
    /// # Errors
    /// The first [`Failure`] of a device.
    pub async fn join(&mut self) -> Result<Fleet, Failure> {
        let mut members = Vec::with_capacity(self.count);
        let mut failed = None;
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok((member, result)) => {
                    failed = failed.or(result.err());
                    members.push(member);
                }
                Err(error) => {
                    let what = format!("a simulated device crashed: {error}");
                    failed = failed.or(Some(Failure::new(Code::Software, what, "report this")));
                }
            }
        }
        members.sort_by_key(|member| member.photon.id());
        failed.map_or(Ok(Fleet { members }), Err)
    }
}
