#![doc = include_str!("../README.md")]
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "a program for hosts")]

mod application;
mod client;
pub mod config;
mod firmware;
pub mod flash;
mod photon;
pub mod usb;

pub use application::Application;
pub use client::{Client, End, PLATFORM_ID};
pub use firmware::Firmware;
pub use flash::{Flash, FlashError, PowerCut};
pub use photon::{InstalledModule, Photon, Started};
