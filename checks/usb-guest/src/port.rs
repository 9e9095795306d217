//! A USB port of the guest: a usbredir socket with one of our devices behind it, in real time.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::devices::Kind;
use crate::redir::{Asked, Request, Wire};
use crate::store::Store;
use spark_dfu::descriptor::Mode;
use spark_dfu::device::{Device, Failures, Memory, Runtime, RuntimeWork, Stall, Work};
use spark_dfu::{SetupPacket, Status};

/// What happened at the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device answers as this one from now on.
    Attached(Mode),
    /// Nothing answers any more.
    Detached,
    /// A USB reset.
    Reset,
    /// SET_INTERFACE.
    Selected(u8),
    /// DFU_DETACH.
    DetachRequest,
    /// A page was erased.
    Erased(u8, u32),
    /// All of a memory was erased.
    MassErased(u8),
    /// Bytes were written: alternate, address, length.
    Written(u8, u32, usize),
    /// A plain download is in place.
    Manifested(u64),
    /// The device left DFU mode.
    Left,
}

/// Work under way: when it ends, and how.
type Begun = Option<(Instant, Result<(), Status>)>;

enum Attached {
    Nothing,
    Runtime(Runtime<'static>),
    Dfu(Box<Device<'static, Vec<u8>>>, Begun),
}

/// A twentieth of the time that flash takes: the waits are still there, the minutes are not.
struct Quick<'s>(&'s mut Store);

impl Memory for Quick<'_> {
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize {
        self.0.read(alternate, address, out)
    }

    fn estimate(&self, work: &Work<'_>) -> Duration {
        self.0.estimate(work) / 20
    }
}

struct Inside {
    wire: Option<Wire<UnixStream>>,
    plugged: Option<(Kind, Store)>,
    attached: Attached,
    events: Vec<Event>,
    start: Instant,
    blocks_left: Option<u32>,
    deaf: bool,
}

/// The port.
#[derive(Clone)]
pub struct Port {
    inside: Arc<Mutex<Inside>>,
    folder: PathBuf,
}

impl Port {
    /// Waits at a socket for QEMU. Memories are kept in `folder`.
    pub fn listen(socket: &Path, folder: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let inside = Inside {
            wire: None,
            plugged: None,
            attached: Attached::Nothing,
            events: Vec::new(),
            start: Instant::now(),
            blocks_left: None,
            deaf: false,
        };
        let port = Self { inside: Arc::new(Mutex::new(inside)), folder };
        let (server, clock) = (port.clone(), port.clone());
        thread::spawn(move || {
            let Ok((stream, _)) = listener.accept() else { return };
            if let Err(error) = server.serve(stream) {
                eprintln!("usbredir: {error}");
            }
        });
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(2));
                clock.lock().settle();
            }
        });
        Ok(port)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let mut input = Wire(stream.try_clone()?);
        {
            let mut inside = self.lock();
            let mut wire = Wire(stream);
            wire.hello()?;
            inside.wire = Some(wire);
            inside.announce();
        }
        loop {
            let asked = match input.next() {
                Err(error) if is_end(&error) => return Ok(()),
                asked => asked?,
            };
            self.lock().take(&asked)?;
        }
    }

    /// Plugs a device in. Its memories have what they had before, or are new.
    pub fn plug(&self, kind: Kind) {
        let store = Store::open(&self.folder, kind.memories, kind.dfu.alternates);
        let store = store.expect("the folder for memories can be written");
        let mut inside = self.lock();
        (inside.blocks_left, inside.deaf) = (None, false);
        inside.plugged = Some((kind, store));
        inside.enter(if kind.runtime.is_some() { Mode::Runtime } else { Mode::Dfu });
        inside.announce();
    }

    /// Pulls the plug.
    pub fn unplug(&self) {
        let mut inside = self.lock();
        inside.part();
        inside.plugged = None;
    }

    /// Pulls the plug instead of answering the next DNLOAD after `count` that have data.
    pub fn unplug_after(&self, count: u32) {
        self.lock().blocks_left = Some(count);
    }

    /// Whether class requests stay without an answer.
    pub fn set_deaf(&self, deaf: bool) {
        self.lock().deaf = deaf;
    }

    /// What happened since the last call.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock().events)
    }

    /// A memory as it is now.
    pub fn memory(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).expect("a device with this memory was plugged in")
    }

    /// Makes the memories new.
    pub fn renew(&self) {
        for name in ["flash.bin", "dct.bin", "image.bin"] {
            let _ = std::fs::remove_file(self.folder.join(name));
        }
    }
}

impl Inside {
    fn take(&mut self, asked: &Asked) -> io::Result<()> {
        self.settle();
        let mut input = vec![0; 4096];
        let result = match &asked.request {
            Request::Cancel => return Ok(()),
            Request::Reset => {
                self.reset();
                return Ok(());
            }
            Request::Control(setup, output) => {
                let class = setup.request_type & 0x60 == 0x20;
                let block = class && setup.request == 1 && setup.length > 0;
                match &mut self.blocks_left {
                    Some(0) if block => {
                        self.part();
                        self.plugged = None;
                        return Ok(());
                    }
                    Some(left) if block => *left -= 1,
                    _ => {}
                }
                if matches!(self.attached, Attached::Nothing) || class && self.deaf {
                    return Ok(());
                }
                self.wait_if_deaf();
                self.control(*setup, output, &mut input)
            }
        };
        if let Some(wire) = &mut self.wire {
            wire.answer(asked, result.map(|len| &input[..len]).map_err(|Stall| ()))?;
        }
        self.settle();
        Ok(())
    }

    /// Firmware that waits for its flash answers late.
    fn wait_if_deaf(&mut self) {
        let deaf = self.plugged.as_ref().is_some_and(|(kind, _)| kind.deaf_at_work);
        while let (true, Attached::Dfu(_, Some((until, _)))) = (deaf, &self.attached) {
            thread::sleep(until.saturating_duration_since(Instant::now()));
            self.settle();
        }
    }

    fn control(&mut self, setup: SetupPacket, output: &[u8], input: &mut [u8]) -> Result<usize, Stall> {
        match (setup.request_type, setup.request) {
            (0x01, 11) => self.events.push(Event::Selected(setup.value.to_le_bytes()[0])),
            (0x21, 0) => self.events.push(Event::DetachRequest),
            _ => {}
        }
        let (now, bytes) = (self.start.elapsed(), setup.to_bytes());
        match (&mut self.attached, &mut self.plugged) {
            (Attached::Runtime(device), _) => device.control(now, &bytes, input),
            (Attached::Dfu(device, _), Some((_, store))) => {
                let len = device.control(now, &mut Quick(store), &bytes, output, input)?;
                if device.profile().failures == Failures::Stall {
                    // This firmware works inside the transfer, and stalls it when the work fails.
                    while let Some(work) = device.work(now) {
                        if matches!(work, Work::Leave { .. }) {
                            break;
                        }
                        let result = perform(store, &work, &mut self.events);
                        device.work_done(now, result)?;
                    }
                }
                Ok(len)
            }
            _ => Err(Stall),
        }
    }

    fn reset(&mut self) {
        self.events.push(Event::Reset);
        match &mut self.attached {
            Attached::Nothing => {}
            Attached::Runtime(device) => device.bus_reset(self.start.elapsed()),
            Attached::Dfu(device, _) => device.bus_reset(),
        }
        // What the reset makes of the device answers the next request, without leaving the bus.
        match &self.attached {
            Attached::Runtime(device) if device.work() == Some(RuntimeWork::EnterDfuMode) => {
                self.enter(Mode::Dfu);
            }
            Attached::Dfu(device, _) if device.next_deadline() == Some(Duration::ZERO) => self.left(false),
            _ => {}
        }
    }

    /// Ends work whose time has come, begins what is due, and re-attaches where the device says so.
    fn settle(&mut self) {
        loop {
            match (&mut self.attached, &mut self.plugged) {
                (Attached::Runtime(device), _) if device.work() == Some(RuntimeWork::Detach) => {
                    self.part();
                    self.enter(Mode::Dfu);
                    self.announce();
                    return;
                }
                (Attached::Dfu(device, begun), Some((_, store))) => {
                    let now = self.start.elapsed();
                    if let Some((until, result)) = *begun {
                        if until > Instant::now() {
                            return;
                        }
                        *begun = None;
                        // Only firmware that works inside the transfer has one left to stall.
                        let _ = device.work_done(now, result);
                    }
                    let Some(work) = device.work(now) else { return };
                    match work {
                        Work::Leave { .. } => {
                            self.left(true);
                            return;
                        }
                        Work::ReadUnprotect { .. } => {
                            let _ = perform(store, &work, &mut self.events);
                            self.part();
                            self.enter(Mode::Dfu);
                            self.announce();
                            return;
                        }
                        work => {
                            let until = Instant::now() + Quick(store).estimate(&work);
                            *begun = Some((until, perform(store, &work, &mut self.events)));
                        }
                    }
                }
                _ => return,
            }
        }
    }

    /// Leaves DFU mode, by itself or because of a reset.
    fn left(&mut self, by_itself: bool) {
        self.events.push(Event::Left);
        let has_application = self.plugged.as_ref().is_some_and(|(kind, _)| kind.runtime.is_some());
        if by_itself || !has_application {
            self.part();
        }
        if has_application {
            self.enter(Mode::Runtime);
            if by_itself {
                self.announce();
            }
        }
    }

    fn enter(&mut self, mode: Mode) {
        let Some((kind, _)) = &self.plugged else { return };
        self.attached = match (mode, kind.runtime) {
            (Mode::Runtime, Some(description)) => Attached::Runtime(Runtime::new(description)),
            _ => {
                let size = usize::from(kind.dfu.functional.transfer_size);
                let device = Device::new(kind.dfu, kind.profile, vec![0; size]);
                Attached::Dfu(Box::new(device.expect("all kinds are sound")), None)
            }
        };
        self.events.push(Event::Attached(mode));
    }

    /// Tells QEMU of the device.
    fn announce(&mut self) {
        let (description, mode) = match &self.attached {
            Attached::Nothing => return,
            Attached::Runtime(device) => (device.description(), Mode::Runtime),
            Attached::Dfu(device, _) => (device.description(), Mode::Dfu),
        };
        if let Some(wire) = &mut self.wire {
            wire.connect(description, mode).expect("QEMU listens");
        }
    }

    fn part(&mut self) {
        if matches!(self.attached, Attached::Nothing) {
            return;
        }
        self.attached = Attached::Nothing;
        self.events.push(Event::Detached);
        if let Some(wire) = &mut self.wire {
            wire.disconnect().expect("QEMU listens");
        }
    }
}

/// QEMU is gone.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn perform(store: &mut Store, work: &Work<'_>, events: &mut Vec<Event>) -> Result<(), Status> {
    let result = store.perform(work);
    if result.is_ok() {
        events.extend(match *work {
            Work::Erase { alternate, address } => Some(Event::Erased(alternate, address)),
            Work::MassErase { alternate } => Some(Event::MassErased(alternate)),
            Work::Program { alternate, address, data } => {
                Some(Event::Written(alternate, address, data.len()))
            }
            Work::Manifest { len, .. } => Some(Event::Manifested(len)),
            _ => None,
        });
    }
    result
}
