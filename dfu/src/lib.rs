//! USB DFU 1.0/1.1 and ST DfuSe without I/O: host and device machines, memory layout strings, Particle profiles.
