#![doc = include_str!("../README.md")]
#![allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "a program for hosts")]

mod application;
mod bootloader;
mod client;
pub mod config;
mod firmware;
pub mod flash;
mod photon;
pub mod serial;
mod update;
pub mod usb;

pub use application::{Answer, Application, Content, Program, ProgramError, Sender, Subscription};
pub use client::{
    Client, End, Happening, Job, JobDone, PLATFORM_ID, Publication, PublishError, ReceivedEvent, Receiver,
};
pub use firmware::{Firmware, Saying, UnknownFirmware, UnknownVariable};
pub use flash::{Flash, FlashError, PowerCut};
pub use photon::{InstalledModule, Photon, Started};
