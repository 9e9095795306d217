//! Serial ports: which there are, and which one is meant.

use crate::exit::{Code, Failure, chain};
use crate::ui;
use core::fmt;
use serde::Serialize;
use serialport::{SerialPortInfo, SerialPortType};
use spark_dct::segment::Platform;

/// Vendor of all but the first devices.
const PARTICLE: u16 = 0x2b04;
/// From the product of a running device to the one in DFU mode, which platforms are known by.
const TO_DFU: u16 = 0x1000;
/// A Core has ids of another vendor's.
const CORE: [(u16, u16); 2] = [(0x1d50, 0x607d), (0x1d50, 0x607f)];

/// Options of `list`.
#[derive(clap::Args, Clone, Debug)]
pub struct ListArgs {
    /// All serial ports, whatever is at them.
    #[arg(long)]
    pub all: bool,
    /// Print the result as JSON on standard output, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// A serial port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Port {
    /// Its name, for `--port`.
    pub port: String,
    /// USB ids of what is there.
    pub vendor: Option<u16>,
    /// The same.
    pub product: Option<u16>,
    /// Serial number: the id of the device.
    pub serial_number: Option<String>,
    /// Kind of device, if it is one of Particle's.
    pub platform: Option<String>,
    /// Number of that kind.
    pub platform_id: Option<u16>,
}

impl Port {
    fn new(info: SerialPortInfo) -> Self {
        let mut port = Self::named(info.port_name);
        if let SerialPortType::UsbPort(usb) = info.port_type {
            (port.vendor, port.product) = (Some(usb.vid), Some(usb.pid));
            port.serial_number = usb.serial_number.map(|number| number.to_lowercase());
            if let Some((platform, id)) = platform(usb.vid, usb.pid) {
                (port.platform, port.platform_id) = (Some(format!("{platform:?}")), Some(id));
            }
        }
        port
    }

    /// A port of which nothing is known but its name.
    fn named(name: String) -> Self {
        Self {
            port: name,
            vendor: None,
            product: None,
            serial_number: None,
            platform: None,
            platform_id: None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.port)?;
        if let (Some(vendor), Some(product)) = (self.vendor, self.product) {
            write!(f, "  {vendor:04x}:{product:04x}")?;
        }
        for text in [&self.platform, &self.serial_number].into_iter().flatten() {
            write!(f, "  {text}")?;
        }
        Ok(())
    }
}

/// The kind of a running device by its USB ids: 2b04:c006 is a Photon, c0 and the number of the kind in general.
fn platform(vendor: u16, product: u16) -> Option<(Platform, u16)> {
    if (vendor, product) == CORE[0] {
        let (vendor, product) = CORE[1];
        return Platform::from_usb_id(vendor, product).map(|platform| (platform, 0));
    }
    if vendor != PARTICLE || product >> 8 != 0xc0 {
        return None;
    }
    Platform::from_usb_id(vendor, product + TO_DFU).map(|platform| (platform, product & 0xff))
}

/// All ports, in the order of their names.
///
/// # Errors
/// [`Failure`] of the system.
pub fn all() -> Result<Vec<Port>, Failure> {
    let ports = serialport::available_ports().map_err(|error| {
        let what = format!("cannot list the serial ports: {}", chain(&error));
        Failure::new(Code::Io, what, "name the port with --port")
    })?;
    let mut ports: Vec<Port> = ports.into_iter().map(Port::new).collect();
    ports.sort_by(|one, other| one.port.cmp(&other.port));
    Ok(ports)
}

/// The port that is meant.
///
/// # Errors
/// [`Failure`] without one, or with several.
pub fn one(name: Option<&str>) -> Result<Port, Failure> {
    if let Some(name) = name {
        // Ports that cannot be listed can be named all the same.
        let listed = all().unwrap_or_default().into_iter().find(|port| port.port == name);
        return Ok(listed.unwrap_or_else(|| Port::named(name.to_owned())));
    }
    choose(all()?.into_iter().filter(|port| port.platform.is_some()).collect())
}

fn choose(mut found: Vec<Port>) -> Result<Port, Failure> {
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => Err(Failure::new(
            Code::Unavailable,
            "no serial port with a device was found",
            "plug it in and hold its SETUP (or MODE) button for three seconds until it blinks blue; `spark serial list \
             --all` shows every port, --port names one",
        )),
        _ => {
            let names: Vec<String> = found.iter().map(ToString::to_string).collect();
            let what = format!("several devices are there:\n  {}", names.join("\n  "));
            Err(Failure::new(Code::Usage, what, "choose one with --port"))
        }
    }
}

/// `spark serial list`.
pub(super) fn list(args: &ListArgs) -> Result<(), Failure> {
    let mut ports = all()?;
    ports.retain(|port| args.all || port.platform.is_some());
    if args.json {
        return ui::print(serde_json::to_string(&ports).unwrap_or_default());
    }
    if ports.is_empty() {
        ui::say(
            "no serial port with a device; `--all` shows every port, `spark device --listening` simulates one",
        );
    }
    ports.iter().try_for_each(ui::print)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serialport::UsbPortInfo;

    fn usb(name: &str, vid: u16, pid: u16) -> Port {
        let serial_number = Some("3A0027001747343338303599".to_owned());
        let info: UsbPortInfo = UsbPortInfo { vid, pid, serial_number, manufacturer: None, product: None };
        Port::new(SerialPortInfo { port_name: name.to_owned(), port_type: SerialPortType::UsbPort(info) })
    }

    #[test]
    fn devices_are_known_by_their_usb_ids() {
        for (vendor, product, expected) in [
            (0x2b04, 0xc006, Some(("Photon", 6))),
            (0x2b04, 0xc008, Some(("P1", 8))),
            (0x2b04, 0xc00a, Some(("Electron", 10))),
            (0x1d50, 0x607d, Some(("Core", 0))),
            (0x2b04, 0xd006, None),
            (0x0403, 0x6001, None),
        ] {
            let port = usb("/dev/ttyACM0", vendor, product);
            let known = port.platform.as_deref().zip(port.platform_id);
            assert_eq!(known, expected, "{vendor:04x}:{product:04x}");
        }
        assert_eq!(
            usb("/dev/ttyACM0", 0x2b04, 0xc006).to_string(),
            "/dev/ttyACM0  2b04:c006  Photon  3a0027001747343338303599"
        );
    }

    #[test]
    fn one_device_is_chosen_and_several_are_named() {
        let [first, second] =
            [("/dev/a", 0xc006), ("/dev/b", 0xc008)].map(|(name, pid)| usb(name, 0x2b04, pid));
        assert_eq!(choose(vec![first.clone()]).unwrap(), first);
        assert_eq!(choose(vec![]).unwrap_err().code(), Code::Unavailable);
        let several = choose(vec![first, second]).unwrap_err();
        assert!(several.what().contains("/dev/a") && several.what().contains("/dev/b"), "{several}");
        assert_eq!(several.next(), "choose one with --port");
    }
}
