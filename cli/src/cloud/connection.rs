//! One TCP connection: bytes from the socket through handshake and session, RSA work on the pool, and what the owner and
//! other devices have for this one.

use super::crypto::DeviceKey;
use super::folder::unix_time;
use super::limits::{Place, Seat};
use super::live::{COMMANDS, Command, Ended, Live};
use super::plan::Plan;
use super::refusal::Refusal;
use super::session::{Answer, CallError, Introduction, Session};
use super::store::{Device, KeyRecord};
use super::{Cloud, Enrolment, Event, Relayed, Transfer};
use coap_spark::connection::{ConnectionError, Machine, SendError, ServerConnection};
use coap_spark::handshake::server::{Accepted, AwaitIdentity, Identified};
use coap_spark::handshake::{Cause, DeviceId, Failure, Stage};
use coap_spark::message::Name;
use coap_spark::message::describe::Describe;
use coap_spark::message::system_event::{self, SystemNames};
use coap_spark::session::SessionKeys;
use coap_spark::tokio::Framed;
use coap_spark::tokio::handshake::read_identity;
use core::time::Duration;
use rand_core::Rng;
use spark_keys::Fingerprint;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Bytes that the kernel may keep for a device. With more, a whole image would count as sent at once, and the wait for
/// the device's answer would begin minutes too early.
const SEND_BUFFER: usize = 16 * 1024;
/// Bytes for spark/device/random, as the JavaScript servers send.
const RANDOM: usize = 40;

/// Runs one connection to its end and reports how it ended. `place` is one among those who have not said Hello.
pub(super) async fn serve(cloud: Arc<Cloud>, mut socket: TcpStream, address: SocketAddr, mut place: Place) {
    // Chunks are small and each waits for nothing: do not let the kernel collect them. Neither is worth failing for.
    let _ = socket.set_nodelay(true);
    let _ = socket2::SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
    let started = Instant::now();
    let mut claimed = None;
    let mut stopping = cloud.stopping.subscribe();
    let shaken = tokio::select! {
        // In a box, so that it takes no memory from then on.
        shaken = Box::pin(handshake(&cloud, &mut socket, &mut claimed, &place.seat)) => shaken,
        _ = &mut place.evicted => Err(Refusal::evicted()),
        _ = stopping.wait_for(Option::is_some) => return,
    };
    match shaken {
        Ok((accepted, known)) => {
            Conversation::new(cloud, address, started, accepted.device_id, known.record)
                .run(socket, accepted, known, place)
                .await;
        }
        Err(refusal) => {
            note_failure(&cloud, claimed, address, &refusal).await;
            cloud.refuse(claimed, Some(address), refusal);
        }
    }
}

/// Writes a failure into the record of a device that is known.
async fn note_failure(cloud: &Cloud, device: Option<DeviceId>, address: SocketAddr, refusal: &Refusal) {
    let Some(id) = device else { return };
    let failed = super::store::Failed {
        at: unix_time(),
        reason: refusal.reason.clone(),
        advice: refusal.advice.clone(),
        row: refusal.row.map(|row| row.code.to_owned()),
        address: Some(address.to_string()),
        times: 1,
    };
    let noted = cloud.store.change(move |transaction| {
        let mut device = transaction.device(id)?;
        // Strangers choose their ids: nothing is kept of those that are not known.
        if device.keys.is_empty() {
            return Ok(());
        }
        device.fail(failed);
        transaction.put_device(id, &device)
    });
    if let Err(failure) = noted.await {
        cloud.report(Event::Trouble { what: failure.to_string() });
    }
}

/// Which of a device's keys it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Record {
    Current,
    /// The one that its owner has just written into it.
    Next,
}

/// What is known about a device that may connect.
struct Known {
    record: Record,
    device: Device,
    plan: Option<Plan>,
}

/// Steps 1 to 3. Reads no byte behind the identity: what follows belongs to the session.
async fn handshake(
    cloud: &Arc<Cloud>,
    socket: &mut TcpStream,
    claimed: &mut Option<DeviceId>,
    seat: &Seat,
) -> Result<(Box<Accepted>, Box<Known>), Refusal> {
    let mut nonce = [0; 40];
    rand::rng().fill_bytes(&mut nonce);
    let mut waiting = AwaitIdentity::start(nonce, Duration::ZERO);
    write(cloud, socket, &nonce).await.map_err(|error| Refusal::io(&error))?;

    read_identity(socket, &mut waiting, cloud.options.limits.identity_timeout).await?;
    let Ok((waiting, job)) = waiting.complete() else {
        return Err(Failure { stage: Stage::ReceiveIdentity, cause: Cause::Closed }.into());
    };
    seat.set_served(true);
    let worker = Arc::clone(cloud);
    let decrypted = cloud.workers.run(move || job.run(&worker.server_key, &mut rand::rng())).await?;
    let identified = waiting.resume(decrypted)?;
    *claimed = Some(identified.device_id());

    let (device_key, known) = authorise(cloud, &identified).await?;
    let mut session = Zeroizing::new([0; SessionKeys::LEN]);
    rand::rng().fill_bytes(session.as_mut_slice());
    let (waiting, job) = identified.accept(SessionKeys::new(*session));
    let worker = Arc::clone(cloud);
    let sealed =
        cloud.workers.run(move || job.run(&device_key, &worker.server_key, &mut rand::rng())).await?;
    let accepted = waiting.resume(sealed)?;
    seat.set_served(false);
    write(cloud, socket, &accepted.message).await.map_err(|error| Refusal::io(&error))?;
    Ok((Box::new(accepted), Box::new(known)))
}

/// A device that does not take bytes for as long as it may be silent is gone.
async fn write(cloud: &Cloud, socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    match tokio::time::timeout(cloud.options.policy.idle_timeout, socket.write_all(bytes)).await {
        Ok(result) => result,
        Err(_) => {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the device does not take any bytes"))
        }
    }
}

/// The recorded key decides; an offered one is only compared, or enrolled where the operator said so.
async fn authorise(cloud: &Cloud, identified: &Identified) -> Result<(DeviceKey, Known), Refusal> {
    let id = identified.device_id();
    let failed = |failure: crate::exit::Failure| Refusal::of_store(&failure);
    let device = cloud.store.device(id).map_err(failed)?.unwrap_or_default();
    let plan = cloud.store.plan(id).map_err(failed)?;
    let usable = |record: &KeyRecord| {
        DeviceKey::new(&record.spki(), cloud.options.back_end).map_err(|error| {
            Refusal::of_row(
                "record-unusable",
                format!("the recorded key: {error}"),
                "enrol the device again".to_owned(),
            )
        })
    };
    let Some(offered) = identified.offered_key() else {
        // It does not say which of two keys it holds; a wrong guess is made good when it connects again.
        let next = device.next_key().filter(|_| rand::rng().next_u32().is_multiple_of(2));
        let (key, record) = match (next, device.current_key()) {
            (Some(next), _) => (usable(next)?, Record::Next),
            (None, Some(current)) => (usable(current)?, Record::Current),
            (None, None) => {
                return Err(Refusal::of_row(
                    "device-unknown",
                    "unknown device that offers no key".to_owned(),
                    format!("give the cloud its public key: `spark keys send-ready --cloud DIR {id}`"),
                ));
            }
        };
        return Ok((key, Known { record, device, plan }));
    };
    let is_offered = |record: &&KeyRecord| record.spki() == offered[..];
    if let Some(next) = device.next_key().filter(is_offered) {
        return Ok((usable(next)?, Known { record: Record::Next, plan, device }));
    }
    if let Some(current) = device.current_key().filter(is_offered) {
        return Ok((usable(current)?, Known { record: Record::Current, plan, device }));
    }
    let key = DeviceKey::new(offered, cloud.options.back_end).map_err(|error| {
        let reason = format!("the device offers an unusable key: {error}");
        Refusal::of_row(
            "record-unusable",
            reason,
            "write a new key to the device: `spark keys doctor`".to_owned(),
        )
    })?;
    let (changed, spki) = (device.current_key().is_some(), offered.to_vec());
    let first_use = cloud.options.enrolment == Enrolment::FirstUse && !changed;
    let enrolled = cloud.store.change(move |transaction| {
        transaction.update_device(id, |device| {
            if first_use && device.enrol_first(&spki, unix_time()).is_ok() {
                device.claimed = true;
                return Some(device.clone());
            }
            device.offer(&spki, unix_time());
            None
        })
    });
    if let Some(device) = enrolled.await.map_err(failed)? {
        return Ok((key, Known { record: Record::Current, plan, device }));
    }
    let fingerprint = Fingerprint::of_spki(offered);
    let advice = format!(
        "if this is the device's fingerprint, `spark cloud accept {id} {} --data DIR` lets it in",
        fingerprint.short()
    );
    Err(match changed {
        true => Refusal::of_row(
            "device-key-differs",
            format!("key changed: the device offers {}, not the recorded key", fingerprint.short()),
            advice,
        ),
        false => Refusal::of_row(
            "device-unknown",
            format!("unknown device, its key is {}", fingerprint.short()),
            advice,
        ),
    })
}

/// A device's task after the handshake.
struct Conversation {
    cloud: Arc<Cloud>,
    id: DeviceId,
    connection: u64,
    address: SocketAddr,
    started: Instant,
    /// When its session began.
    began: Instant,
    record: Record,
    /// The last Describe that is written down.
    described: Option<Describe>,
    /// Beginnings of the names that it has subscribed to.
    prefixes: Vec<String>,
    /// It has said Hello.
    online: bool,
    claimed: bool,
    /// Events that came too fast.
    too_fast: u64,
    calls: HashMap<u64, Waiting>,
    next_ticket: u64,
    events_in: mpsc::Sender<Arc<Relayed>>,
    events_out: mpsc::Receiver<Arc<Relayed>>,
    commands_in: mpsc::Sender<Command>,
    commands_out: mpsc::Receiver<Command>,
}

/// Somebody who waits for an answer.
struct Waiting {
    reply: oneshot::Sender<Result<Answer, CallError>>,
}

impl Conversation {
    fn new(cloud: Arc<Cloud>, address: SocketAddr, started: Instant, id: DeviceId, record: Record) -> Self {
        let (events_in, events_out) = mpsc::channel(cloud.options.limits.mailbox);
        let (commands_in, commands_out) = mpsc::channel(COMMANDS);
        Self {
            id,
            connection: cloud.new_connection(),
            cloud,
            address,
            started,
            began: Instant::now(),
            record,
            described: None,
            prefixes: Vec::new(),
            online: false,
            claimed: false,
            too_fast: 0,
            calls: HashMap::new(),
            next_ticket: 0,
            events_in,
            events_out,
            commands_in,
            commands_out,
        }
    }

    /// Everything after the handshake.
    async fn run(mut self, socket: TcpStream, accepted: Box<Accepted>, known: Box<Known>, place: Place) {
        let mut framed = self.begin(socket, &accepted, *known);
        drop(accepted);
        let end = self.exchange(&mut framed, place).await;
        // The socket is closed before anything is written down.
        let mut session = Box::new(framed.into_parts().machine);
        session.handle_end(self.began.elapsed());
        let _ = self.tell(&mut session).await;
        self.finish(end).await;
    }

    /// No part of the future: what is moved there would be kept twice, in every connection.
    fn begin(&mut self, socket: TcpStream, accepted: &Accepted, known: Known) -> Framed<TcpStream, Session> {
        let mut first_id = [0; 2];
        rand::rng().fill_bytes(&mut first_id);
        let policy = self.cloud.options.policy;
        self.began = Instant::now();
        let connection =
            ServerConnection::new(&accepted.session, policy, u16::from_le_bytes(first_id), Duration::ZERO);
        let catalogue = Arc::clone(&self.cloud.catalogue);
        let mut session = Session::new(self.id, connection, catalogue, self.cloud.options.session.clone());
        session.set_attempts(self.cloud.attempts_of(self.id));
        session.set_plan(known.plan);
        session.set_introduction(Introduction {
            name: known.device.name.unwrap_or_default(),
            address: self.address.ip().to_canonical().to_string(),
        });
        self.claimed = known.device.claimed;
        self.described = known.device.describe;
        let mut framed = Framed::new(socket, session, self.began);
        framed.set_write_timeout(policy.idle_timeout);
        framed
    }

    /// Moves bytes until the connection ends; gives the reason.
    async fn exchange(&mut self, framed: &mut Framed<TcpStream, Session>, place: Place) -> Refusal {
        let mut place = Some(place);
        let mut replaced: Option<oneshot::Receiver<Ended>> = None;
        let mut stopping = self.cloud.stopping.subscribe();
        loop {
            match self.tell(framed.machine_mut()).await {
                Err(refusal) => return refusal,
                Ok(true) if replaced.is_none() => {
                    place = None;
                    replaced = Some(self.come_online());
                }
                Ok(_) => {}
            }
            let updating = framed.machine().is_updating();
            tokio::select! {
                turned = framed.turn() => if let Err(error) = turned { return error.into() },
                Some(event) = self.events_out.recv() => framed.machine_mut().offer(&event),
                Some(command) = self.commands_out.recv() => {
                    let now = framed.now();
                    self.obey(now, framed.machine_mut(), command);
                }
                ended = gone(&mut replaced) => return ended,
                () = evicted(&mut place) => return Refusal::evicted(),
                refusal = stop(&mut stopping, updating) => return refusal,
            }
        }
    }

    /// The device has said Hello: it is reachable from now on.
    fn come_online(&mut self) -> oneshot::Receiver<Ended> {
        let (end, replaced) = oneshot::channel();
        self.online = true;
        self.cloud.metrics.handshakes.inc();
        self.cloud.metrics.handshake_seconds.observe(self.started.elapsed().as_secs_f64());
        self.cloud.live.take_over(
            self.id,
            Live {
                connection: self.connection,
                commands: self.commands_in.clone(),
                end,
                since: SystemTime::now(),
                address: self.address,
                transfer: None,
            },
        );
        self.cloud.router.announce(self.id, system_event::STATUS, "online");
        replaced
    }

    fn obey(&mut self, now: Duration, session: &mut Session, command: Command) {
        match command {
            Command::Call { call, reply } => {
                let ticket = self.next_ticket;
                match session.call(ticket, call) {
                    Ok(()) => {
                        self.next_ticket += 1;
                        self.calls.insert(ticket, Waiting { reply });
                    }
                    // Whoever asked may have gone, here and below.
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Command::Plan(plan) => session.set_plan(Some(*plan)),
            Command::CancelPlan => session.cancel_plan(now),
            Command::Claimed(claimed) => self.claimed = claimed,
            Command::Introduce(introduction) => session.set_introduction(introduction),
        }
    }

    /// Reports and writes down what happened in the session, and passes events on. `true` if the device said Hello.
    async fn tell(&mut self, session: &mut Session) -> Result<bool, Refusal> {
        while let Some((ticket, answer)) = session.poll_answer() {
            if let Some(waiting) = self.calls.remove(&ticket) {
                drop(waiting.reply.send(answer));
            }
        }
        while let Some(event) = session.poll_published() {
            self.cloud.metrics.events.inc();
            // A device that belongs to nobody speaks to nobody.
            if self.claimed {
                self.cloud.router.publish(event);
            }
        }
        while let Some(subscription) = session.poll_subscribed() {
            if !self.prefixes.contains(&subscription.prefix) {
                self.prefixes.push(subscription.prefix.clone());
            }
            self.cloud.router.subscribe(self.connection, subscription, self.events_in.clone());
        }
        let too_fast = session.dropped_events();
        if too_fast != self.too_fast {
            if self.too_fast == 0 {
                let what = format!("{} publishes more events than it may, some are dropped", self.id);
                self.cloud.report(Event::Trouble { what });
            }
            self.cloud.metrics.events_dropped.inc_by(too_fast - self.too_fast);
            self.too_fast = too_fast;
        }
        let mut online = false;
        while let Some(event) = session.poll_event() {
            online |= matches!(event, Event::Online { .. });
            if let Event::WantsRandom { .. } = event {
                let mut random = [0; RANDOM];
                rand::rng().fill_bytes(&mut random);
                session.give_random(hex::encode(random).get(..RANDOM).unwrap_or_default().as_bytes());
            }
            if let Event::UpdateFinished { .. } = event {
                self.cloud.keep_attempts(self.id, session.attempts().clone());
            }
            self.note(&event).await.map_err(|failure| {
                self.cloud.report(Event::Trouble { what: failure.to_string() });
                Refusal::of_store(&failure)
            })?;
            self.show(&event);
            self.cloud.report(event);
        }
        Ok(online)
    }

    /// Writes down what an event says about the device. What is reported is on the disk.
    async fn note(&mut self, event: &Event) -> Result<(), crate::exit::Failure> {
        let id = self.id;
        match event {
            Event::Online { platform_id, product_id, product_version, .. } => {
                let (platform_id, product_id, version) = (*platform_id, *product_id, *product_version);
                // Hello shows that the device holds the private key; offering the public one shows nothing.
                let is_next = self.record == Record::Next;
                let address = self.address.ip().to_canonical().to_string();
                let noted = self.cloud.store.change(move |transaction| {
                    transaction.update_device(id, |device| {
                        if is_next {
                            device.accept_next(unix_time());
                        }
                        device.platform_id = platform_id.or(device.platform_id);
                        device.product_id = product_id.or(device.product_id);
                        device.product_version = version.or(device.product_version);
                        device.first_seen = device.first_seen.or(Some(unix_time()));
                        device.last_seen = Some(unix_time());
                        device.last_address = Some(address);
                        device.connections = device.connections.saturating_add(1);
                    })
                });
                noted.await
            }
            Event::Described { describe, .. } if self.described.as_ref() != Some(describe) => {
                self.described = Some(describe.clone());
                let describe = describe.clone();
                let noted = self.cloud.store.change(move |transaction| {
                    transaction.update_device(id, |device| device.describe = Some(describe))
                });
                noted.await
            }
            Event::PlanChanged { plan, .. } => {
                let plan = plan.clone();
                // A plan that its owner has replaced meanwhile is not to come back.
                let noted = self.cloud.store.change(move |transaction| {
                    let is_current = transaction.plan(id)?.is_none_or(|known| known.number <= plan.number);
                    if is_current { transaction.put_plan(id, &plan) } else { Ok(()) }
                });
                noted.await
            }
            Event::ClaimCode { code, .. } if self.cloud.claims.take(code) => {
                self.claimed = true;
                let noted = self
                    .cloud
                    .store
                    .change(move |transaction| transaction.update_device(id, |device| device.claimed = true));
                noted.await
            }
            _ => Ok(()),
        }
    }

    /// What watchers and counters see of an event.
    fn show(&self, event: &Event) {
        let (cloud, id) = (&self.cloud, self.id);
        match event {
            Event::Published { name, data, max_age, public, .. } if self.claimed => {
                let is_system = Name::new(name).is_system(SystemNames::SparkOrParticle);
                // The application's own went through the router.
                if is_system && name != system_event::CLAIM_CODE {
                    cloud.router.stream(Relayed {
                        device: Some(id),
                        name: name.clone(),
                        data: data.as_ref().map(|data| data.clone().into_bytes()),
                        max_age: *max_age,
                        public: *public,
                    });
                }
            }
            Event::EventDropped { .. } => {
                cloud.metrics.events_dropped.inc();
            }
            Event::UpdateStarted { module, bytes, .. } => {
                let (module, bytes) = (module.clone(), *bytes);
                let transfer = Transfer { module: module.clone(), bytes, chunks: 0, sent: 0, resent: 0 };
                cloud.live.set_transfer(id, self.connection, Some(transfer));
                cloud.router.announce(id, system_event::FLASH_STATUS, &format!("started {module}"));
            }
            Event::UpdateProgress { progress, .. } => cloud.live.progress(id, *progress),
            Event::UpdateFinished { module, progress, failure, .. } => {
                let bytes =
                    cloud.live.look(id, |live| live.transfer.as_ref().map_or(0, |transfer| transfer.bytes));
                cloud.live.set_transfer(id, self.connection, None);
                cloud.metrics.update_resent.inc_by(progress.resent.into());
                if failure.is_none() {
                    cloud.metrics.update_bytes.inc_by(bytes.unwrap_or(0) as u64);
                }
                let result = if failure.is_none() { "success" } else { "failed" };
                cloud.metrics.update(result);
                cloud.router.announce(id, system_event::FLASH_STATUS, &format!("{result} {module}"));
            }
            _ => {}
        }
    }

    async fn finish(mut self, end: Refusal) {
        self.cloud.router.unsubscribe(self.connection, &self.prefixes);
        // Nobody asks any more, and who asked is answered.
        self.commands_out.close();
        while let Ok(command) = self.commands_out.try_recv() {
            if let Command::Call { reply, .. } = command {
                drop(reply.send(Err(CallError::Offline)));
            }
        }
        if !self.online {
            note_failure(&self.cloud, Some(self.id), self.address, &end).await;
            self.cloud.refuse(Some(self.id), Some(self.address), end);
            return;
        }
        self.cloud.metrics.end(end.cause);
        let id = self.id;
        if end.row.is_some() {
            note_failure(&self.cloud, Some(id), self.address, &end).await;
            self.cloud.remember(Some(id), Some(self.address), &end);
        }
        if self.cloud.live.give_up(id, self.connection) {
            // A device that was forgotten meanwhile stays forgotten.
            let seen = self.cloud.store.change(move |transaction| {
                let mut device = transaction.device(id)?;
                if device.keys.is_empty() {
                    return Ok(());
                }
                device.last_seen = Some(unix_time());
                transaction.put_device(id, &device)
            });
            if let Err(failure) = seen.await {
                self.cloud.report(Event::Trouble { what: failure.to_string() });
            }
            self.cloud.router.announce(id, system_event::STATUS, "offline");
        }
        self.cloud.report(Event::Offline { device: id, cause: end.cause, reason: end.reason });
    }
}

impl Machine for Session {
    type Error = ConnectionError;

    fn handle_input(&mut self, now: Duration, input: &[u8]) -> Result<usize, ConnectionError> {
        // Send first, then read.
        if !self.wants_input() {
            return Ok(0);
        }
        let seconds = u32::try_from(unix_time()).unwrap_or(u32::MAX);
        self.handle_input(now, seconds, input)?;
        Ok(input.len())
    }

    fn poll_output<'o>(&mut self, now: Duration, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        self.poll_send(now, out)
    }

    fn next_deadline(&self) -> Option<Duration> {
        Some(self.next_deadline())
    }

    fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        self.handle_deadline(now)
    }
}

/// Resolves when the connection is to end; never before the device has said Hello.
async fn gone(replaced: &mut Option<oneshot::Receiver<Ended>>) -> Refusal {
    let ended = match replaced {
        Some(end) => end.await,
        None => core::future::pending().await,
    };
    let (reason, cause) = match ended {
        Ok(Ended::Replaced) | Err(_) => ("the device has connected anew", "replaced"),
        Ok(Ended::Revoked) => ("its key was changed or it was forgotten", "revoked"),
    };
    let advice = "nothing is wrong".to_owned();
    Refusal { reason: reason.to_owned(), advice, cause, row: None }
}

/// Resolves when others need the place of somebody who has not said Hello.
async fn evicted(place: &mut Option<Place>) {
    match place {
        Some(place) => drop((&mut place.evicted).await),
        None => core::future::pending().await,
    }
}

/// Resolves when the cloud stops: at once, or in the middle of an update when its time is over.
async fn stop(stopping: &mut watch::Receiver<Option<std::time::Instant>>, updating: bool) -> Refusal {
    let deadline = match stopping.wait_for(Option::is_some).await {
        Ok(deadline) => *deadline,
        Err(_) => None,
    };
    if let (true, Some(deadline)) = (updating, deadline) {
        tokio::time::sleep_until(deadline.into()).await;
    }
    Refusal {
        reason: "the server stopped".to_owned(),
        advice: "start the cloud again, the device connects by itself".to_owned(),
        cause: "stopping",
        row: None,
    }
}
