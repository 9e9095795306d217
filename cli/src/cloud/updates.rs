//! Which module a device gets next: the catalogue and the device's Describe through the resolver of `spark-ota`.

