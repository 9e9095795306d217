//! Device and server keys of Particle devices: read leniently, check for the device, generate, fingerprint.
