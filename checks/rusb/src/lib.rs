//! The host machines over libusb, with the crate `rusb`.
//!
//! [`Bus`] is the adapter to copy: [`ControlTransfer`](spark_dfu::host::ControlTransfer) and
//! [`Clock`](spark_dfu::host::Clock) over a `rusb::DeviceHandle`. [`Found`] finds the interface that it opens. The program
//! `dfu` does with both what people do with a Photon; the program `dfu-libusb` writes with the crate of that name.

mod bus;
mod found;

pub use bus::Bus;
pub use found::Found;
