//! The Particle Device Configuration Table: fields, flash containers, server address, recovery.
