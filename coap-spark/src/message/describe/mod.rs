//! Describe: what a device has and runs.
//!
//! A server asks with [`DescribeFlags`], or a device with Device OS 2 posts it unasked. The answer is a JSON document or,
//! for metrics alone, binary: [`Description`] tells which.
//!
//! `{"f":["name"],"v":{"name":2},"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":30,"f":"s","n":"1","v":207,"d":[]}]}`
//!
//! The document itself is behind features, which may be had together:
//!
//! - feature `json`: `Describe`, owned, keeps members that it does not know;
//! - feature `json-core`: `Document` and `DocumentBuf`, borrowed and bounded, without a heap.
//!
//! # Source
//! device-os@v2.3.1: `system/src/system_info.cpp`, `communication/src/describe.h`; v0.4.9 for the older form.

#[cfg(feature = "json-core")]
mod bounded;
#[cfg(feature = "json-core")]
mod bounded_read;
mod flags;
mod letters;
mod metrics;
#[cfg(feature = "json")]
mod owned;

#[cfg(feature = "json-core")]
pub use bounded::{Dependency, Document, DocumentTooLong, Module};
#[cfg(feature = "json-core")]
pub use bounded_read::{DocumentBuf, DocumentError};
pub use flags::{DescribeFlags, Description};
pub use letters::{ModuleFunction, ModuleStore};
pub use metrics::{Metric, Metrics, MetricsWriter};
#[cfg(feature = "json")]
pub use owned::{DependencyInfo, Describe, DescribeError, Member, ModuleInfo};
