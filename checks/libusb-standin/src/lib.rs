//! A stand-in for libusb-1.0: the functions that dfu-util 0.11 and a few other programs call, with a device of
//! `spark-dfu` at the other end of the cable.
//!
//! Put this library as `libusb-1.0.so.0` into a folder and start a program with `LD_LIBRARY_PATH` pointing there:
//!
//! | variable | meaning |
//! |---|---|
//! | `SPARK_USB_DEVICE` | the device, a name of [`devices::find`]; any other: no device |
//! | `SPARK_USB_STATE` | folder of its memories and its mode; made when missing, kept between runs |
//! | `SPARK_USB_LOG` | file to which one JSON line per transfer and event is appended |
//!
//! Time is virtual: a transfer takes 1 ms, and `nanosleep`, which this library also defines, returns at once; the clocks
//! of the program under test go on as if it had slept. So a mass erase of 12 s takes no time, and a log is the same in
//! every run.
//!
//! Not imitated: claim conflicts, kernel drivers, hotplug, asynchronous transfers, timeouts.

pub mod cable;
mod descriptors;
pub mod devices;
pub mod store;

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cable::{Cable, Failure};
use descriptors::{ConfigDescriptor, ConfigTree};
use spark_dfu::SetupPacket;

const ERROR_INVALID_PARAM: c_int = -2;
const ERROR_NO_DEVICE: c_int = -4;
const ERROR_NOT_FOUND: c_int = -5;
const ERROR_PIPE: c_int = -9;

/// `libusb_device`: one attachment of the device.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LibusbDevice {
    generation: u8,
}

/// `libusb_device_handle`.
#[derive(Debug)]
#[repr(C)]
pub struct LibusbDeviceHandle {
    device: *mut LibusbDevice,
}

/// `struct libusb_version`.
#[derive(Debug)]
#[repr(C)]
pub struct LibusbVersion {
    major: u16,
    minor: u16,
    micro: u16,
    nano: u16,
    rc: *const c_char,
    describe: *const c_char,
}

// SAFETY: the pointers lead to constants.
unsafe impl Sync for LibusbVersion {}

static VERSION: LibusbVersion = LibusbVersion {
    major: 1,
    minor: 0,
    micro: 26,
    nano: 11724,
    rc: c"".as_ptr(),
    describe: c"stand-in".as_ptr(),
};

/// One attachment each; a program holds pointers to them for as long as it likes.
static DEVICES: [LibusbDevice; 256] = {
    let mut devices = [LibusbDevice { generation: 0 }; 256];
    let mut i = 0_u8;
    while i < u8::MAX {
        i += 1;
        devices[i as usize].generation = i;
    }
    devices
};

static CABLE: Mutex<Option<Cable>> = Mutex::new(None);

fn cable() -> MutexGuard<'static, Option<Cable>> {
    let mut cable = CABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if cable.is_none() {
        *cable = plug();
    }
    cable
}

fn plug() -> Option<Cable> {
    let kind = devices::find(&std::env::var("SPARK_USB_DEVICE").ok()?)?;
    let folder = std::env::var_os("SPARK_USB_STATE").map(PathBuf::from)?;
    let log = std::env::var_os("SPARK_USB_LOG").map(PathBuf::from);
    Cable::plug(kind, folder, log).map_err(|error| eprintln!("libusb stand-in: {error}")).ok()
}

fn device_pointer(generation: u8) -> *mut LibusbDevice {
    ptr::from_ref(&DEVICES[usize::from(generation)]).cast_mut()
}

fn transfer(generation: u8, setup: SetupPacket, output: &[u8], input: &mut [u8]) -> Result<usize, c_int> {
    let mut cable = cable();
    let cable = cable.as_mut().ok_or(ERROR_NO_DEVICE)?;
    cable.control(generation, setup, output, input).map_err(|failure| match failure {
        Failure::Stall => ERROR_PIPE,
        Failure::Gone => ERROR_NO_DEVICE,
    })
}

fn get_descriptor(generation: u8, kind: u8, index: u8, language: u16) -> Result<Vec<u8>, c_int> {
    let mut bytes = vec![0; 1024];
    let setup = SetupPacket::get_descriptor(kind, index, language, 1024);
    let len = transfer(generation, setup, &[], &mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

fn code(result: Result<c_int, c_int>) -> c_int {
    result.unwrap_or_else(|error| error)
}

/// `libusb_init`.
///
/// # Safety
/// `context` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_init(context: *mut *mut c_void) -> c_int {
    // Any pointer that is not null will do: nothing is behind it.
    // SAFETY: by the contract of this function.
    if let Some(context) = unsafe { context.as_mut() } {
        *context = ptr::from_ref(&VERSION).cast_mut().cast();
    }
    0
}

/// `libusb_exit`.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_exit(_context: *mut c_void) {}

/// `libusb_set_option`. The real one is variadic; further arguments are not looked at.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_set_option(_context: *mut c_void, _option: c_int) -> c_int {
    0
}

/// `libusb_get_version`.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_get_version() -> *const LibusbVersion {
    &raw const VERSION
}

/// `libusb_error_name`.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_error_name(error: c_int) -> *const c_char {
    match error {
        ERROR_INVALID_PARAM => c"LIBUSB_ERROR_INVALID_PARAM",
        ERROR_NO_DEVICE => c"LIBUSB_ERROR_NO_DEVICE",
        ERROR_NOT_FOUND => c"LIBUSB_ERROR_NOT_FOUND",
        ERROR_PIPE => c"LIBUSB_ERROR_PIPE",
        0 => c"LIBUSB_SUCCESS",
        _ => c"LIBUSB_ERROR_OTHER",
    }
    .as_ptr()
}

/// `libusb_get_device_list`: the device of the cable, if one is attached, and a null pointer.
///
/// # Safety
/// `list` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_device_list(
    _context: *mut c_void,
    list: *mut *mut *mut LibusbDevice,
) -> isize {
    let generation = cable().as_ref().and_then(Cable::generation);
    let mut devices: Vec<_> = generation.map(device_pointer).into_iter().collect();
    let count = devices.len();
    devices.push(ptr::null_mut());
    // SAFETY: by the contract of this function.
    unsafe { *list = Box::into_raw(devices.into_boxed_slice()).cast() };
    count.cast_signed()
}

/// `libusb_free_device_list`.
///
/// # Safety
/// `list` comes from [`libusb_get_device_list`] and is given back once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_free_device_list(list: *mut *mut LibusbDevice, _unref: c_int) {
    if list.is_null() {
        return;
    }
    let mut len = 1;
    // SAFETY: the list ends with a null pointer.
    while !unsafe { *list.add(len - 1) }.is_null() {
        len += 1;
    }
    // SAFETY: made by `Box::into_raw` with this length.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(list, len)) });
}

/// `libusb_ref_device`. Devices are never freed.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_ref_device(device: *mut LibusbDevice) -> *mut LibusbDevice {
    device
}

/// `libusb_unref_device`.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_unref_device(_device: *mut LibusbDevice) {}

/// `libusb_get_bus_number`.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_get_bus_number(_device: *mut LibusbDevice) -> u8 {
    1
}

/// `libusb_get_device_address`: another one after each attachment.
///
/// # Safety
/// `device` is one of the list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_device_address(device: *mut LibusbDevice) -> u8 {
    // SAFETY: by the contract of this function.
    unsafe { (*device).generation }
}

/// `libusb_get_port_numbers`.
///
/// # Safety
/// `ports` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_port_numbers(
    _device: *mut LibusbDevice,
    ports: *mut u8,
    len: c_int,
) -> c_int {
    if len < 1 {
        return ERROR_INVALID_PARAM;
    }
    // SAFETY: by the contract of this function.
    unsafe { *ports = 1 };
    1
}

/// `libusb_get_device_descriptor`. On little-endian machines the C structure has the bytes of the descriptor.
///
/// # Safety
/// `device` is one of the list; `descriptor` has room for 18 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_device_descriptor(
    device: *mut LibusbDevice,
    descriptor: *mut u8,
) -> c_int {
    // SAFETY: by the contract of this function.
    let generation = unsafe { (*device).generation };
    code(get_descriptor(generation, 1, 0, 0).and_then(|bytes| {
        let bytes = bytes.get(..18).ok_or(ERROR_NO_DEVICE)?;
        // SAFETY: by the contract of this function.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), descriptor, bytes.len()) };
        Ok(0)
    }))
}

/// `libusb_get_config_descriptor`.
///
/// # Safety
/// `device` is one of the list; `config` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_config_descriptor(
    device: *mut LibusbDevice,
    index: u8,
    config: *mut *mut ConfigDescriptor,
) -> c_int {
    // SAFETY: by the contract of this function.
    let generation = unsafe { (*device).generation };
    code(get_descriptor(generation, 2, index, 0).map_err(|_| ERROR_NOT_FOUND).and_then(|bytes| {
        let tree = ConfigTree::new(bytes).ok_or(ERROR_NOT_FOUND)?;
        // SAFETY: by the contract of this function.
        unsafe { *config = tree.into_raw() };
        Ok(0)
    }))
}

/// `libusb_get_active_config_descriptor`.
///
/// # Safety
/// As [`libusb_get_config_descriptor`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_active_config_descriptor(
    device: *mut LibusbDevice,
    config: *mut *mut ConfigDescriptor,
) -> c_int {
    // SAFETY: by the contract of this function.
    unsafe { libusb_get_config_descriptor(device, 0, config) }
}

/// `libusb_free_config_descriptor`.
///
/// # Safety
/// `config` is null or comes from [`libusb_get_config_descriptor`], and is given back once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_free_config_descriptor(config: *mut ConfigDescriptor) {
    // SAFETY: by the contract of this function.
    unsafe { ConfigTree::free(config) };
}

/// `libusb_open`.
///
/// # Safety
/// `device` is one of the list; `handle` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_open(
    device: *mut LibusbDevice,
    handle: *mut *mut LibusbDeviceHandle,
) -> c_int {
    // SAFETY: by the contract of this function.
    let generation = unsafe { (*device).generation };
    if cable().as_ref().and_then(Cable::generation) != Some(generation) {
        return ERROR_NO_DEVICE;
    }
    // SAFETY: by the contract of this function.
    unsafe { *handle = Box::into_raw(Box::new(LibusbDeviceHandle { device })) };
    0
}

/// `libusb_close`.
///
/// # Safety
/// `handle` is null or comes from [`libusb_open`], and is given back once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_close(handle: *mut LibusbDeviceHandle) {
    // What the device was about to do, it does although nobody asks any more.
    if let Some(cable) = cable().as_mut() {
        cable.settle();
    }
    if !handle.is_null() {
        // SAFETY: made by `Box::into_raw` in `libusb_open`.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// `libusb_get_device`.
///
/// # Safety
/// `handle` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_device(handle: *mut LibusbDeviceHandle) -> *mut LibusbDevice {
    // SAFETY: by the contract of this function.
    unsafe { (*handle).device }
}

/// `libusb_claim_interface`.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_claim_interface(_handle: *mut LibusbDeviceHandle, _interface: c_int) -> c_int {
    0
}

/// `libusb_release_interface`.
#[unsafe(no_mangle)]
pub extern "C" fn libusb_release_interface(_handle: *mut LibusbDeviceHandle, _interface: c_int) -> c_int {
    0
}

/// `libusb_reset_device`. "Not found" means that the device has to be looked for again.
///
/// # Safety
/// `handle` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_reset_device(handle: *mut LibusbDeviceHandle) -> c_int {
    // SAFETY: by the contract of this function.
    let generation = unsafe { (*(*handle).device).generation };
    match cable().as_mut().map(|cable| cable.reset(generation)) {
        Some(Ok(true)) => 0,
        _ => ERROR_NOT_FOUND,
    }
}

/// `libusb_set_interface_alt_setting`.
///
/// # Safety
/// `handle` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_set_interface_alt_setting(
    handle: *mut LibusbDeviceHandle,
    interface: c_int,
    setting: c_int,
) -> c_int {
    let (Ok(interface), Ok(setting)) = (u8::try_from(interface), u8::try_from(setting)) else {
        return ERROR_INVALID_PARAM;
    };
    // SAFETY: by the contract of this function.
    let generation = unsafe { (*(*handle).device).generation };
    code(transfer(generation, SetupPacket::set_interface(interface, setting), &[], &mut []).map(|_| 0))
}

/// `libusb_control_transfer`. OUT transfers return wLength.
///
/// # Safety
/// `handle` is open; `data` has `length` bytes, which are read or written by the direction.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_control_transfer(
    handle: *mut LibusbDeviceHandle,
    request_type: u8,
    request: u8,
    value: u16,
    index: u16,
    data: *mut u8,
    length: u16,
    _timeout: c_uint,
) -> c_int {
    // SAFETY: by the contract of this function.
    let generation = unsafe { (*(*handle).device).generation };
    let bytes = if length == 0 || data.is_null() {
        &mut []
    } else {
        // SAFETY: by the contract of this function.
        unsafe { slice::from_raw_parts_mut(data, usize::from(length)) }
    };
    let setup = SetupPacket { request_type, request, value, index, length };
    if request_type & 0x80 == 0 {
        return code(transfer(generation, setup, bytes, &mut []).map(|_| c_int::from(length)));
    }
    // The device may answer less than it was asked for; what is behind that stays as it was.
    let mut input = vec![0; bytes.len()];
    code(transfer(generation, setup, &[], &mut input).map(|len| {
        bytes[..len].copy_from_slice(&input[..len]);
        c_int::try_from(len).unwrap_or(c_int::MAX)
    }))
}

/// `libusb_get_string_descriptor_ascii`.
///
/// # Safety
/// `handle` is open; `data` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libusb_get_string_descriptor_ascii(
    handle: *mut LibusbDeviceHandle,
    index: u8,
    data: *mut u8,
    length: c_int,
) -> c_int {
    let room = usize::try_from(length).unwrap_or(0);
    if index == 0 || room == 0 {
        return ERROR_INVALID_PARAM;
    }
    // SAFETY: by the contract of this function.
    let generation = unsafe { (*(*handle).device).generation };
    code(get_descriptor(generation, 3, index, 0x0409).map(|bytes| {
        let units = bytes.get(2..).unwrap_or_default().chunks_exact(2);
        let text: Vec<u8> =
            units.map(|unit| if unit[1] == 0 && unit[0] < 128 { unit[0] } else { b'?' }).collect();
        let len = text.len().min(room - 1);
        // SAFETY: by the contract of this function; one byte is left for the zero.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), data, len);
            *data.add(len) = 0;
        }
        c_int::try_from(len).unwrap_or(c_int::MAX)
    }))
}

/// What the program has slept without sleeping, in nanoseconds.
static SLEPT: AtomicU64 = AtomicU64::new(0);

/// `struct timespec`.
#[derive(Debug)]
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Timespec {
    fn pass(&self) {
        let seconds = Duration::from_secs(self.seconds.unsigned_abs());
        let time = seconds + Duration::from_nanos(self.nanoseconds.unsigned_abs());
        SLEPT.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(0), Ordering::Relaxed);
        // Without a device nobody keeps the time.
        if let Some(cable) = cable().as_mut() {
            cable.pass(time, true);
        }
    }
}

/// `nanosleep`, ahead of the C library's.
///
/// # Safety
/// `request` points to a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(request: *const Timespec, _remaining: *mut Timespec) -> c_int {
    // SAFETY: by the contract of this function.
    unsafe { (*request).pass() };
    0
}

/// `clock_nanosleep`, ahead of the C library's. Rust programs sleep with it.
///
/// # Safety
/// `request` points to a time, relative to now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    _clock: c_int,
    _flags: c_int,
    request: *const Timespec,
    _remaining: *mut Timespec,
) -> c_int {
    // SAFETY: by the contract of this function.
    unsafe { (*request).pass() };
    0
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

type ClockGettime = unsafe extern "C" fn(c_int, *mut Timespec) -> c_int;

/// `clock_gettime`, ahead of the C library's, whose time it asks for: what was slept is added to it.
///
/// # Safety
/// `time` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    /// `RTLD_NEXT`: the libraries after this one.
    const NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);
    const SECOND: i64 = 1_000_000_000;
    // SAFETY: the symbol is a C string.
    let next = unsafe { dlsym(NEXT, c"clock_gettime".as_ptr()) };
    if next.is_null() {
        return -1;
    }
    // SAFETY: the C library's function of this name has this type.
    let next: ClockGettime = unsafe { std::mem::transmute::<*mut c_void, ClockGettime>(next) };
    // SAFETY: by the contract of this function.
    let result = unsafe { next(clock, time) };
    if result == 0 {
        let slept = i64::try_from(SLEPT.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        // SAFETY: by the contract of this function; the C library has filled it in.
        let time = unsafe { &mut *time };
        let nanoseconds = time.nanoseconds + slept % SECOND;
        time.seconds += slept / SECOND + nanoseconds / SECOND;
        time.nanoseconds = nanoseconds % SECOND;
    }
    result
}
