//! `spark dct` as a user runs it, on dumps and on the simulated Photon.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

#[path = "../common/bench.rs"]
mod bench;
mod edit;
mod input;
mod output;
mod recover;
mod show;
mod tables;
