//! A host over real USB, with the crate `nusb`: finds DFU devices and carries the control transfers of the machines.
//!
//! ```no_run
//! use spark_dfu::{descriptor::Mode, host::{Connect, drive}, usb};
//! let found = usb::list()?;
//! let dfu = found.iter().find(|found| found.mode == Mode::Dfu).ok_or("no device in DFU mode")?;
//! let mut device = dfu.open()?;
//! device.select(0)?;
//! let link = device.link();
//! drive(&mut Connect::new(link), &mut device, &mut [0; 4096], |_| ())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Linux resets the alternate setting when an interface is released, so select it again after each [`Found::open`].
//! Windows can neither reset the bus nor list the alternates of a device without opening it.

mod device;
mod find;

pub use device::UsbDevice;
pub use find::{Found, Memory, PortPath, list};

/// Why USB failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsbError {
    /// The system does not let this user open the device.
    #[error("no permission for the USB device; on Linux add a udev rule for its ids or run as root")]
    PermissionDenied,
    /// Another program or driver holds the interface.
    #[error("another program uses the USB device; close it")]
    Busy,
    /// The device is gone.
    #[error("the USB device is gone; plug it in again")]
    Disconnected,
    /// The system or the device has no such thing, such as an alternate setting.
    #[error("the USB device does not have what was asked for")]
    NotFound,
    /// This system cannot do it.
    #[error("this system cannot do that with a USB device")]
    Unsupported,
    /// The system's own error.
    #[error("the USB system failed with code {}", code.unwrap_or(0))]
    System {
        /// `errno`, `WIN32_ERROR` or `IOReturn`.
        code: Option<u32>,
    },
    /// The device has no DFU interface any more.
    #[error("the USB device has no DFU interface; plug it in again")]
    NoInterface,
}

impl From<nusb::Error> for UsbError {
    fn from(error: nusb::Error) -> Self {
        match error.kind() {
            nusb::ErrorKind::PermissionDenied => Self::PermissionDenied,
            nusb::ErrorKind::Busy => Self::Busy,
            nusb::ErrorKind::Disconnected => Self::Disconnected,
            nusb::ErrorKind::NotFound => Self::NotFound,
            nusb::ErrorKind::Unsupported => Self::Unsupported,
            _ if error.os_error().is_some_and(is_gone) => Self::Disconnected,
            _ => Self::System { code: error.os_error() },
        }
    }
}

/// Requests that Linux makes by itself, such as SET_INTERFACE, fail with EPROTO, EILSEQ, ETIME or ESHUTDOWN in the moment
/// before it knows that nobody is there.
const fn is_gone(errno: u32) -> bool {
    cfg!(target_os = "linux") && matches!(errno, 71 | 84 | 62 | 108)
}
