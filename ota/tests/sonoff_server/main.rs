//! The server's side alone: what recorded devices say, every state against every event, strangers, and what it bounds.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::missing_docs_in_private_items,
    reason = "test code"
)]

mod client;
mod commands;
mod final_stage;
mod recorded;
mod states;
mod strangers;
