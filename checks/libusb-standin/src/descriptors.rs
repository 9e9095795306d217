//! The configuration descriptor as libusb's C structures.

use std::ffi::{c_int, c_void};
use std::ptr;

use spark_dfu::descriptor::{Configuration, INTERFACE};

/// `struct libusb_config_descriptor`.
#[derive(Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the names of the USB specification")]
pub struct ConfigDescriptor {
    pub length: u8,
    pub descriptor_type: u8,
    pub total_length: u16,
    pub num_interfaces: u8,
    pub configuration_value: u8,
    pub configuration: u8,
    pub attributes: u8,
    pub max_power: u8,
    pub interface: *const Interface,
    pub extra: *const u8,
    pub extra_length: c_int,
}

/// `struct libusb_interface`.
#[derive(Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "libusb's names")]
pub struct Interface {
    pub altsetting: *const InterfaceDescriptor,
    pub num_altsetting: c_int,
}

/// `struct libusb_interface_descriptor`.
#[derive(Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the names of the USB specification")]
pub struct InterfaceDescriptor {
    pub length: u8,
    pub descriptor_type: u8,
    pub interface_number: u8,
    pub alternate_setting: u8,
    pub num_endpoints: u8,
    pub interface_class: u8,
    pub interface_sub_class: u8,
    pub interface_protocol: u8,
    pub interface: u8,
    pub endpoint: *const c_void,
    pub extra: *const u8,
    pub extra_length: c_int,
}

/// A configuration and all that its pointers lead to. DFU devices have no endpoints.
#[repr(C)]
pub(crate) struct ConfigTree {
    /// First, so that a pointer to it is one to the tree.
    config: ConfigDescriptor,
    raw: Vec<u8>,
    settings: Vec<Vec<InterfaceDescriptor>>,
    interfaces: Vec<Interface>,
}

impl ConfigTree {
    /// Splits the bytes. What follows an interface descriptor is its `extra`, up to the next interface.
    pub(crate) fn new(raw: Vec<u8>) -> Option<Box<Self>> {
        let configuration = Configuration::parse(&raw).ok()?;
        let mut settings: Vec<Vec<InterfaceDescriptor>> = Vec::new();
        let mut first = raw.len();
        for descriptor in configuration.descriptors().map_while(Result::ok) {
            if descriptor.kind == INTERFACE {
                let &[length, descriptor_type, number, alternate, endpoints, class, sub, protocol, name, ..] =
                    descriptor.bytes
                else {
                    return None;
                };
                first = first.min(descriptor.offset);
                let setting = InterfaceDescriptor {
                    length,
                    descriptor_type,
                    interface_number: number,
                    alternate_setting: alternate,
                    num_endpoints: endpoints,
                    interface_class: class,
                    interface_sub_class: sub,
                    interface_protocol: protocol,
                    interface: name,
                    endpoint: ptr::null(),
                    extra: ptr::null(),
                    extra_length: 0,
                };
                match settings.iter_mut().find(|group| group[0].interface_number == number) {
                    Some(group) => group.push(setting),
                    None => settings.push(vec![setting]),
                }
            } else if let Some(setting) = settings.last_mut().and_then(|group| group.last_mut()) {
                if setting.extra.is_null() {
                    setting.extra = raw[descriptor.offset..].as_ptr();
                }
                setting.extra_length += c_int::try_from(descriptor.bytes.len()).ok()?;
            }
        }
        let interfaces: Vec<_> = settings
            .iter()
            .map(|group| {
                let num_altsetting = c_int::try_from(group.len()).unwrap_or(0);
                Interface { altsetting: group.as_ptr(), num_altsetting }
            })
            .collect();
        let &[length, descriptor_type, t0, t1, num_interfaces, value, name, attributes, max_power, ..] =
            raw.as_slice()
        else {
            return None;
        };
        let extra = raw.get(usize::from(length)..first).unwrap_or_default();
        let config = ConfigDescriptor {
            length,
            descriptor_type,
            total_length: u16::from_le_bytes([t0, t1]),
            num_interfaces,
            configuration_value: value,
            configuration: name,
            attributes,
            max_power,
            interface: interfaces.as_ptr(),
            extra: if extra.is_empty() { ptr::null() } else { extra.as_ptr() },
            extra_length: c_int::try_from(extra.len()).ok()?,
        };
        // The vectors are moved, what they own is not.
        Some(Box::new(Self { config, raw, settings, interfaces }))
    }

    /// Gives the tree away as a pointer to its first field.
    pub(crate) fn into_raw(self: Box<Self>) -> *mut ConfigDescriptor {
        debug_assert!(self.interfaces.len() == self.settings.len() && !self.raw.is_empty());
        Box::into_raw(self).cast()
    }

    /// Takes it back.
    ///
    /// # Safety
    /// `config` is null or comes from [`Self::into_raw`], and is given back once.
    pub(crate) unsafe fn free(config: *mut ConfigDescriptor) {
        if !config.is_null() {
            // SAFETY: by the contract; the configuration is the first field of the tree.
            drop(unsafe { Box::from_raw(config.cast::<Self>()) });
        }
    }
}
