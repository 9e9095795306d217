//! Module files over USB: what has to be written where, and in which order.
//!
//! [`plan()`] takes the module files that somebody wants on a device and gives the writes, ready for a planner of DFU
//! downloads: alternate setting, address and bytes. Nothing is left to be calculated, and everything was checked: each file
//! is a good module for this platform, fits, is in nobody's way, and lies where the platform has such modules; of a bootloader
//! the device itself looks at that.
//!
//! ```
//! # #[cfg(feature = "alloc")] {
//! use spark_ota::flashing::{Options, Target, plan};
//! use spark_ota::module::{ModuleBuilder, ModuleFunction};
//!
//! let photon = Target::from_usb_id(0x2b04, 0xd006).ok_or("not a device of Particle's")?;
//! let file = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&[7; 100]).build()?;
//! let plan = plan(photon, &[&file], Options::DEFAULT)?;
//! let step = &plan.steps[0];
//! assert_eq!((step.alternate, step.address, &*step.bytes, step.leave), (0, 0x080a_0000, &file[..], true));
//! # }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! Whether the device then has every module that the new ones need is not looked at: see [`resolve`](crate::resolve) for
//! that.
//!
//! # Source
//! particle-cli@v2.16.0: `dfu.js`, `flash.js`, `update.js` and its device tables.

#[cfg(feature = "alloc")]
mod plan;
#[cfg(feature = "alloc")]
mod refusal;
mod target;

#[cfg(feature = "alloc")]
pub use plan::{MAX_MODULES, Options, Plan, Purpose, Step, Warning, plan};
#[cfg(feature = "alloc")]
pub use refusal::Refusal;
pub use target::{Area, Place, Target};
