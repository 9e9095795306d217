//! A simulated Photon on a real network, and the program `spark device`.

pub mod command;
pub mod run;
