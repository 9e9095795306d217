//! The serial port over USB: listening mode, and the speeds that are commands while the application runs.

use crate::config;
use crate::photon::{Photon, StartMode};
use crate::update::UpdateTarget;
use coap_spark::message::ResetReason;
use coap_spark::message::describe::Describe;
use core::time::Duration;
use spark_dct::App;
use spark_dct::wiced::{AccessPoint, WifiConfig, WifiSecurity};
use spark_ota::coap::Target;
use spark_ota::serial::{
    BaudTrigger, Cipher, Credentials, Facts, Listening, ListeningOutput, Mac, Question, Security,
};
use spark_ota::transfer::Plan;

/// The maker's part of a MAC address.
const MAKER: [u8; 3] = [0x6c, 0x0b, 0x84];
/// System error of an image that is not valid.
const INVALID_IMAGE: i32 = -240;
/// System error of a flash that does not take bytes.
const NOT_WRITTEN: i32 = -160;

/// What the device does with what comes over its serial port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SerialMode {
    /// It listens to commands (blinking blue).
    Listening,
    /// The application runs, and has no use for the port.
    Running,
}

/// Why a device stops using its serial port as it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SerialEnd {
    /// It leaves listening mode. The application goes on without a reset.
    Left,
    /// It restarts, to listen again or not: call [`Photon::start`].
    Restarted {
        /// It is to listen again.
        listening: bool,
    },
    /// It has taken an image and restarts: call [`Photon::start`].
    Updated,
    /// It restarts into DFU mode: call [`Photon::start`].
    DfuMode,
    /// The power failed.
    PowerLost,
}

/// A cable to a Photon's serial port. Bytes and time go in, bytes and deadlines come out.
#[derive(Debug)]
pub struct SerialPort<'p> {
    photon: &'p mut Photon,
    mode: SerialMode,
    machine: Listening,
    plan: Option<Plan>,
    baud: u32,
    end: Option<SerialEnd>,
}

impl<'p> SerialPort<'p> {
    pub(crate) fn new(photon: &'p mut Photon, mode: SerialMode) -> Self {
        let machine = Listening::new(photon.firmware().serial, photon.ota_region_len());
        Self { photon, mode, machine, plan: None, baud: 0, end: None }
    }

    /// The device.
    #[must_use]
    pub const fn photon(&self) -> &Photon {
        self.photon
    }

    /// Why it ended, if it has.
    #[must_use]
    pub const fn end(&self) -> Option<SerialEnd> {
        self.end
    }

    /// A file is being received.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        self.machine.is_receiving()
    }

    /// The host sets the speed. While the application runs two speeds are commands, see [`BaudTrigger`].
    pub fn set_baud(&mut self, now: Duration, baud: u32) {
        let changed = core::mem::replace(&mut self.baud, baud) != baud;
        if !changed || self.end.is_some() || self.mode == SerialMode::Listening {
            return;
        }
        match BaudTrigger::from_baud(baud) {
            Some(BaudTrigger::Dfu) => {
                self.photon.plan_start(StartMode::Dfu, ResetReason::DfuMode);
                self.end = Some(SerialEnd::DfuMode);
            }
            Some(_) => self.machine.receive(now),
            None => {}
        }
    }

    /// What the host sent. Poll the output afterwards, also in between if it was much.
    ///
    /// Gives what the device said to it.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> Vec<u8> {
        let mut said = self.drain(now);
        let mut rest = bytes;
        while !rest.is_empty() && self.end.is_none() && self.is_open() {
            let used = self.machine.handle_input(now, rest);
            rest = rest.get(used..).unwrap_or_default();
            let more = self.drain(now);
            if used == 0 && more.is_empty() {
                break;
            }
            said.extend(more);
        }
        said
    }

    fn is_open(&self) -> bool {
        self.mode == SerialMode::Listening || self.machine.is_receiving()
    }

    /// When [`SerialPort::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.end.is_some() { None } else { self.machine.next_deadline() }
    }

    /// The deadline has come. Early calls are harmless. Gives what the device says then.
    pub fn handle_deadline(&mut self, now: Duration) -> Vec<u8> {
        if self.end.is_none() {
            self.machine.handle_deadline(now);
        }
        self.drain(now)
    }

    /// Does what is due and gives what is to be said.
    fn drain(&mut self, now: Duration) -> Vec<u8> {
        let mut said = Vec::new();
        while self.end.is_none()
            && let Some(output) = self.machine.poll_output()
        {
            let mut target = UpdateTarget::new(self.photon);
            let done = match output {
                ListeningOutput::Send(bytes) => {
                    said.extend_from_slice(bytes);
                    continue;
                }
                ListeningOutput::Answer(question) => {
                    said.extend(answer(self.photon, question).into_bytes());
                    continue;
                }
                ListeningOutput::Network(credentials) => keep_network(self.photon, &credentials),
                ListeningOutput::ClaimCode(code) => {
                    // The machine gives 63 characters. Without power nothing else works either.
                    let _ = core::str::from_utf8(code).map(|code| self.photon.set_claim_code(code));
                    continue;
                }
                ListeningOutput::Begin(header) => {
                    let file_length = header.length.unwrap_or_default();
                    let plan = Plan { chunk_size: 1024, file_length, chunks: 0, fast: false };
                    self.plan = Some(plan);
                    target.prepare(&plan)
                }
                ListeningOutput::Write { offset, data } => target.save(offset, data),
                ListeningOutput::Finish { .. } => {
                    if self.plan.is_none_or(|plan| !target.is_valid(&plan)) {
                        self.plan = None;
                    }
                    let result = if self.plan.is_some() { Ok(()) } else { Err(INVALID_IMAGE) };
                    self.machine.work_done(now, result);
                    continue;
                }
                ListeningOutput::Restart { listening: false } => {
                    if let Some(plan) = self.plan.take() {
                        target.apply(&plan);
                    }
                    self.end = Some(SerialEnd::Updated);
                    continue;
                }
                ListeningOutput::Restart { listening } => {
                    self.photon.plan_start(StartMode::Normal, ResetReason::User);
                    self.end = Some(SerialEnd::Restarted { listening });
                    continue;
                }
                ListeningOutput::Leave => {
                    self.end = Some(SerialEnd::Left);
                    continue;
                }
                _ => continue,
            };
            self.machine.work_done(now, if done { Ok(()) } else { Err(NOT_WRITTEN) });
        }
        if !self.photon.flash().is_powered() {
            self.end = Some(SerialEnd::PowerLost);
            said.clear();
        }
        said
    }
}

fn answer(photon: &Photon, question: Question) -> String {
    let describe = Describe {
        platform_id: Some(crate::client::PLATFORM_ID),
        modules: Some(photon.module_infos()),
        ..Describe::default()
    };
    let table = photon.configuration();
    let facts = Facts {
        device_id: &photon.id().to_string(),
        core: false,
        mac: photon.mac_address(),
        modules: &describe.to_json(),
        version: photon.firmware().release,
        claimed: App::new(&table).is_ok_and(|app| app.claimed()),
        diagnostics: "{}",
    };
    let mut text = String::new();
    // A `String` takes everything.
    let _ = facts.write(question, &mut text);
    text
}

/// Puts a network in front of the others, as the radio's driver has them; the last of five falls out.
fn keep_network(photon: &mut Photon, credentials: &Credentials<'_>) -> bool {
    let Ok(network) = AccessPoint::new(credentials.ssid, security(credentials), credentials.password) else {
        return false;
    };
    let generation = photon.configuration_code();
    let written = config::write_wifi(photon.flash_mut(), generation, |wifi| {
        let kept = (0..WifiConfig::ACCESS_POINTS).filter_map(|slot| wifi.view().access_point(slot));
        let kept = kept.filter(|other| other.is_used() && other.ssid != network.ssid);
        let networks: Vec<AccessPoint> = core::iter::once(network).chain(kept).collect();
        for slot in 0..WifiConfig::ACCESS_POINTS {
            // There are so many slots.
            let _ = match networks.get(slot) {
                Some(network) => wifi.set_access_point(slot, network),
                None => wifi.clear_access_point(slot),
            };
        }
        wifi.set_configured(true);
    });
    written.is_ok()
}

/// WPA with both ciphers: the bits of both.
const WPA_MIXED: WifiSecurity = WifiSecurity(WifiSecurity::WPA_AES.0 | WifiSecurity::WPA_TKIP.0);

const fn security(credentials: &Credentials<'_>) -> WifiSecurity {
    match (credentials.security, credentials.cipher) {
        (Security::Wep, _) => WifiSecurity::WEP,
        (Security::Wpa, Cipher::Aes) => WifiSecurity::WPA_AES,
        (Security::Wpa, Cipher::Tkip) => WifiSecurity::WPA_TKIP,
        (Security::Wpa, _) => WPA_MIXED,
        (Security::Wpa2, Cipher::Aes) => WifiSecurity::WPA2_AES,
        (Security::Wpa2, Cipher::Tkip) => WifiSecurity::WPA2_TKIP,
        (Security::Wpa2, _) => WifiSecurity::WPA2_MIXED,
        _ => WifiSecurity::OPEN,
    }
}

impl Photon {
    /// The address of its radio: from its configuration, or, as long as nobody has put one there, made of its id.
    #[must_use]
    pub fn mac_address(&self) -> Mac {
        let stored = config::view(self.flash(), self.configuration_code(), |sector| {
            *sector.wifi_config().mac_address()
        });
        let [a, b, c] = MAKER;
        let [.., d, e, f] = self.id().0;
        let made = [a, b, c, d, e, f];
        Mac(stored.filter(|mac| *mac != [0xff; 6] && *mac != [0; 6]).unwrap_or(made))
    }

    /// The names of the networks that it knows, the first one first.
    #[must_use]
    pub fn networks(&self) -> Vec<String> {
        let networks = config::view(self.flash(), self.configuration_code(), |sector| {
            let slots = 0..WifiConfig::ACCESS_POINTS;
            let known = slots.filter_map(|slot| sector.wifi_config().access_point(slot));
            known
                .filter_map(|network| Some(String::from_utf8_lossy(network.ssid.as_bytes()?).into_owned()))
                .filter(|ssid| !ssid.is_empty())
                .collect()
        });
        networks.unwrap_or_default()
    }
}
