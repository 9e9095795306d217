//! DFU 1.0 and 1.1 without DfuSe: an image goes to the device as numbered blocks, and where it lands is the device's
//! business.
//!
//! Block numbers start at 0 and wrap from 65535 to 0. Each alternate setting is a memory of its own.

mod download;
mod upload;

pub use download::{Download, Manifested};
pub use upload::Upload;
