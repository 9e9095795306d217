#![doc = include_str!("../README.md")]
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "a program for hosts")]

pub mod cloud;
pub mod dct;
pub mod decode;
pub mod device;
pub mod dfu;
pub mod exit;
pub mod files;
pub mod flash;
pub mod inspect;
mod interrupt;
mod key_files;
pub mod keys;
mod particle;
pub mod photons;
pub mod rescue;
pub mod serial;
pub mod sonoff;
pub mod synthetic;
pub mod ui;
