//! Firmware transfer for Particle devices without I/O: module files, transfer sequences, system update resolution.
