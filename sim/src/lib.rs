//! A whole Particle Photon in memory: flash, bootloader, system firmware, modules, power cuts.
