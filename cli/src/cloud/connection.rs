//! One TCP connection: bytes from the socket through handshake and session, and what the owner and other devices have for
//! this one.

use super::folder::unix_time;
use super::handshake::{Admitted, handshake};
use super::limits::Place;
use super::live::{COMMANDS, Command, Ended, Live};
use super::plan::Plan;
use super::refusal::Refusal;
use super::session::{Answer, CallError, Introduction, Session};
use super::store::{Device, Failed};
use super::{Cloud, Event, Relayed, Transfer};
use coap_spark::connection::{ConnectionError, Machine, SendError, ServerConnection};
use coap_spark::handshake::DeviceId;
use coap_spark::handshake::server::Accepted;
use coap_spark::message::Name;
use coap_spark::message::describe::Describe;
use coap_spark::message::system_event::{self, SystemNames};
use coap_spark::tokio::Framed;
use core::time::Duration;
use rand_core::Rng;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

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
        Ok((accepted, admitted)) => {
            let conversation = Conversation::new(cloud, address, started, accepted.device_id, admitted);
            conversation.run(socket, accepted, place).await;
        }
        Err(refusal) => {
            note_failure(&cloud, claimed, address, &refusal).await;
            cloud.refuse(claimed, Some(address), refusal);
        }
    }
}

/// Writes a failure into the record of a device that is known. Anyone can fail in any device's name: the same failure is
/// written once a minute, and nothing is kept of devices that nobody knows.
async fn note_failure(cloud: &Cloud, device: Option<DeviceId>, address: SocketAddr, refusal: &Refusal) {
    let Some(id) = device else { return };
    let failed = Failed {
        at: unix_time(),
        reason: refusal.reason.clone(),
        advice: refusal.advice.clone(),
        row: refusal.row.map(|row| row.code.to_owned()),
        address: Some(address.to_string()),
        times: 1,
    };
    let is_told = |device: &Device| {
        device
            .last_failure
            .as_ref()
            .is_some_and(|last| last.reason == failed.reason && last.at + 60 > failed.at)
    };
    match cloud.store.device(id) {
        Ok(Some(device)) if !device.is_stranger() && !is_told(&device) => {}
        _ => return,
    }
    let noted = cloud.store.change(move |transaction| {
        let mut device = transaction.device(id)?;
        // It may have been forgotten.
        if device.is_stranger() {
            return Ok(());
        }
        device.fail(failed);
        transaction.put_device(id, &device)
    });
    if let Err(failure) = noted.await {
        cloud.report(Event::Trouble { what: failure.to_string() });
    }
}

/// A device's task after the handshake.
struct Conversation {
    cloud: Arc<Cloud>,
    id: DeviceId,
    connection: u64,
    address: SocketAddr,
    started: Instant,
    admitted: Admitted,
    /// When its session began.
    began: Instant,
    /// The last Describe that is written down.
    described: Option<Describe>,
    /// Beginnings of the names that it has subscribed to.
    prefixes: Vec<String>,
    /// It has said Hello; resolves when it is to end.
    online: Option<oneshot::Receiver<Ended>>,
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
    fn new(
        cloud: Arc<Cloud>,
        address: SocketAddr,
        started: Instant,
        id: DeviceId,
        admitted: Admitted,
    ) -> Self {
        let (events_in, events_out) = mpsc::channel(cloud.options.limits.mailbox);
        let (commands_in, commands_out) = mpsc::channel(COMMANDS);
        Self {
            id,
            connection: cloud.new_connection(),
            cloud,
            address,
            started,
            admitted,
            began: Instant::now(),
            described: None,
            prefixes: Vec::new(),
            online: None,
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
    async fn run(mut self, socket: TcpStream, accepted: Box<Accepted>, place: Place) {
        let mut framed = self.begin(socket, &accepted);
        drop(accepted);
        let end = self.exchange(&mut framed, place).await;
        // The socket is closed before anything is written down.
        let mut session = Box::new(framed.into_parts().machine);
        session.handle_end(self.began.elapsed());
        // What cannot be written down now is said in the log.
        let _ = self.tell(self.began.elapsed(), &mut session).await;
        self.finish(end).await;
    }

    /// No part of the future: what is moved there would be kept twice, in every connection.
    fn begin(&mut self, socket: TcpStream, accepted: &Accepted) -> Framed<TcpStream, Session> {
        let mut first_id = [0; 2];
        rand::rng().fill_bytes(&mut first_id);
        let policy = self.cloud.options.policy;
        self.began = Instant::now();
        let connection =
            ServerConnection::new(&accepted.session, policy, u16::from_le_bytes(first_id), Duration::ZERO);
        let catalogue = Arc::clone(&self.cloud.catalogue);
        let mut session = Session::new(self.id, connection, catalogue, self.cloud.options.session.clone());
        session.set_attempts(self.cloud.attempts_of(self.id));
        let mut framed = Framed::new(socket, session, self.began);
        framed.set_write_timeout(policy.idle_timeout);
        framed
    }

    /// Moves bytes until the connection ends; gives the reason.
    async fn exchange(&mut self, framed: &mut Framed<TcpStream, Session>, place: Place) -> Refusal {
        let mut place = Some(place);
        let mut stopping = self.cloud.stopping.subscribe();
        loop {
            let now = framed.now();
            if let Err(refusal) = self.tell(now, framed.machine_mut()).await {
                return refusal;
            }
            if self.online.is_some() {
                place = None;
            }
            self.forget_calls(framed.machine_mut());
            let updating = framed.machine().is_updating();
            tokio::select! {
                turned = framed.turn() => if let Err(error) = turned { return error.into() },
                Some(event) = self.events_out.recv() => framed.machine_mut().offer(&event),
                Some(command) = self.commands_out.recv() => {
                    let now = framed.now();
                    self.obey(now, framed.machine_mut(), command);
                }
                ended = gone(&mut self.online) => return ended,
                () = evicted(&mut place) => return Refusal::evicted(),
                refusal = stop(&mut stopping, updating) => return refusal,
            }
        }
    }

    /// The device has said Hello: it is reachable from now on. What was decided about it meanwhile is read after that, so that
    /// nothing is missed.
    async fn come_online(
        &mut self,
        now: Duration,
        session: &mut Session,
        hello: &Event,
    ) -> Result<(), Refusal> {
        let (end, ended) = oneshot::channel();
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
        self.online = Some(ended);
        let known = self.note_hello(hello).await.map_err(|failure| self.trouble(&failure))?;
        let Some((device, plan)) = known else {
            return Err(Refusal::revoked());
        };
        self.cloud.metrics.handshakes.inc();
        self.cloud.metrics.handshake_seconds.observe(self.started.elapsed().as_secs_f64());
        self.claimed = device.claimed;
        self.described = device.describe;
        session.set_claimed(now, device.claimed);
        session.set_introduction(Introduction {
            name: device.name.unwrap_or_default(),
            address: self.address.ip().to_canonical().to_string(),
        });
        if let Some(plan) = &plan {
            self.cloud.load_modules(plan).map_err(|failure| self.trouble(&failure))?;
        }
        session.set_plan(plan);
        self.cloud.router.announce(self.id, system_event::STATUS, "online");
        Ok(())
    }

    fn trouble(&self, failure: &crate::exit::Failure) -> Refusal {
        self.cloud.report(Event::Trouble { what: failure.to_string() });
        Refusal::of_store(failure)
    }

    /// Writes down that the device is there; what is known about it, or `None` if its key is good no longer. Hello shows that it
    /// holds the private key; offering the public one shows nothing.
    async fn note_hello(
        &self,
        hello: &Event,
    ) -> Result<Option<(Device, Option<Plan>)>, crate::exit::Failure> {
        let Event::Online { platform_id, product_id, product_version, .. } = hello else { return Ok(None) };
        let (platform_id, product_id, version) = (*platform_id, *product_id, *product_version);
        let (id, spki, first_use) = (self.id, self.admitted.spki.clone(), self.admitted.first_use);
        let address = self.address.ip().to_canonical().to_string();
        let noted = self.cloud.store.change(move |transaction| {
            let (mut device, now) = (transaction.device(id)?, unix_time());
            if first_use && device.is_stranger() {
                device.enrol(&spki, now);
                device.claimed = true;
            }
            if !device.prove(&spki, now) {
                return Ok(None);
            }
            device.platform_id = platform_id.or(device.platform_id);
            device.product_id = product_id.or(device.product_id);
            device.product_version = version.or(device.product_version);
            device.first_seen = device.first_seen.or(Some(now));
            device.last_seen = Some(now);
            device.last_address = Some(address);
            device.connections = device.connections.saturating_add(1);
            transaction.put_device(id, &device)?;
            Ok(Some((device, transaction.plan(id)?)))
        });
        noted.await
    }

    /// Calls of callers who have gone are not carried out, as far as they were not sent.
    fn forget_calls(&mut self, session: &mut Session) {
        self.calls.retain(|ticket, waiting| {
            let is_gone = waiting.reply.is_closed();
            if is_gone {
                session.forget_call(*ticket);
            }
            !is_gone
        });
    }

    fn obey(&mut self, now: Duration, session: &mut Session, command: Command) {
        match command {
            Command::Call { call, reply } => {
                let ticket = self.next_ticket;
                match session.call(now, ticket, call) {
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
            Command::Claimed(claimed) => {
                self.claimed = claimed;
                session.set_claimed(now, claimed);
            }
            Command::Introduce(introduction) => session.set_introduction(introduction),
        }
    }

    /// Reports and writes down what happened in the session, and passes events on.
    async fn tell(&mut self, now: Duration, session: &mut Session) -> Result<(), Refusal> {
        while let Some(event) = session.poll_event() {
            if let Event::Online { .. } = event {
                self.come_online(now, session, &event).await?;
            }
            self.answer(session, &event);
            self.note(&event).await.map_err(|failure| self.trouble(&failure))?;
            if matches!(event, Event::ClaimCode { .. }) && self.claimed {
                session.set_claimed(now, true);
                session.settle_claim();
            }
            self.show(&event);
            self.cloud.report(event);
        }
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
        Ok(())
    }

    /// What the session wants of the world.
    fn answer(&self, session: &mut Session, event: &Event) {
        match event {
            Event::WantsRandom { .. } => {
                let mut random = [0; RANDOM];
                rand::rng().fill_bytes(&mut random);
                session.give_random(hex::encode(random).get(..RANDOM).unwrap_or_default().as_bytes());
            }
            Event::UpdateFinished { .. } | Event::UpToDate { .. } => {
                self.cloud.keep_attempts(self.id, session.attempts().clone());
            }
            _ => {}
        }
    }

    /// Writes down what an event says about the device. What is reported is on the disk. A device that was forgotten meanwhile
    /// stays forgotten, and what a newer connection says is not overwritten.
    async fn note(&mut self, event: &Event) -> Result<(), crate::exit::Failure> {
        let (id, store) = (self.id, &self.cloud.store);
        if !self.cloud.live.is_current(id, self.connection) {
            return Ok(());
        }
        match event {
            Event::Described { describe, .. } if self.described.as_ref() != Some(describe) => {
                let describe = describe.clone();
                self.described = Some(describe.clone());
                let noted = store.change(move |transaction| {
                    let mut device = transaction.device(id)?;
                    if device.keys.is_empty() {
                        return Ok(());
                    }
                    device.describe = Some(describe);
                    transaction.put_device(id, &device)
                });
                noted.await
            }
            Event::PlanChanged { plan, .. } => {
                let plan = plan.clone();
                let noted = store.change(move |transaction| {
                    // One that its owner has replaced or ended is not to come back.
                    let known = transaction.plan(id)?;
                    let goes_on =
                        known.is_some_and(|known| known.number == plan.number && known.is_running());
                    if goes_on { transaction.put_plan(id, &plan) } else { Ok(()) }
                });
                noted.await
            }
            Event::ClaimCode { code, .. } => {
                let code = code.clone();
                let claimed = store.change(move |transaction| {
                    if !transaction.take_claim(&code, unix_time())? {
                        return Ok(false);
                    }
                    transaction.update_device(id, |device| device.claimed = true)?;
                    Ok(true)
                });
                self.claimed |= claimed.await?;
                Ok(())
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
            Event::SubscriptionRefused { .. } => {
                cloud.metrics.subscriptions_refused.inc();
            }
            Event::UpdateStarted { module, bytes, index, repair, .. } => {
                if *repair {
                    cloud.router.announce(id, system_event::SAFE_MODE_UPDATING, &index.to_string());
                }
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
        if self.online.is_none() {
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
    match ended {
        Ok(Ended::Replaced) | Err(_) => Refusal::replaced(),
        Ok(Ended::Revoked) => Refusal::revoked(),
    }
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
