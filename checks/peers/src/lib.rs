//! Foreign DFU implementations against ours, in memory.
//!
//! | module | foreign side | our side |
//! |---|---|---|
//! | [`core_host`] | dfu-core as host | device |
//! | [`usbd_device`] | usbd-dfu on usb-device as device | host |
//! | [`embassy_device`] | embassy-usb's DFU class as device | host |
//! | [`embassy_class`] | embassy-usb as USB stack | device: the adapter to copy |
//! | [`usb_device_class`] | usb-device as USB stack | device: the adapter to copy |
//!
//! The two adapters are what a firmware author needs; the rest makes tests of them.

pub mod core_host;
pub mod embassy_class;
pub mod embassy_device;
pub mod ep0;
pub mod ram;
pub mod usb_device_class;
pub mod usbd_device;
