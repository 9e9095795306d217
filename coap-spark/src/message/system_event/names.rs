//! The names as constants.

/// Device: the application does not run because modules are missing; act on Describe.
pub const SAFE_MODE: &str = "spark/device/safemode";
/// Device: claim code from the setup, up to 63 characters.
pub const CLAIM_CODE: &str = "spark/device/claim/code";
/// Device: hardware identifier, such as the ICCID of a cellular device.
pub const IDENTIFIER: &str = "spark/device/ident/0";
/// Device: size of the OTA region in decimal.
pub const MAX_BINARY: &str = "spark/hardware/max_binary";
/// Device: the chunk size it would like, in decimal.
pub const OTA_CHUNK_SIZE: &str = "spark/hardware/ota_chunk_size";
/// Device: why it restarted.
pub const LAST_RESET: &str = "spark/device/last_reset";
/// Device: JSON with the result of an update.
pub const OTA_RESULT: &str = "spark/device/ota_result";
/// Device: which of its keys are bad, a bit set in decimal.
pub const KEY_ERROR: &str = "spark/device/key/error";
/// Core: patch version of its radio. The only subsystem version that is known.
pub const CC3000_PATCH_VERSION: &str = "spark/cc3000-patch-version";
/// Application's question and server's answer: the device's name.
pub const DEVICE_NAME: &str = "spark/device/name";
/// Application's question and server's answer: the device's public address.
pub const DEVICE_IP: &str = "spark/device/ip";
/// Application's question and server's answer: random bytes.
pub const DEVICE_RANDOM: &str = "spark/device/random";
/// Device: whether it takes updates, `true` or `false`; since 1.2.1.
pub const UPDATES_ENABLED: &str = "particle/device/updates/enabled";
/// Both: whether updates are forced, `true` or `false`; since 1.2.1.
pub const UPDATES_FORCED: &str = "particle/device/updates/forced";
/// Server: whether an update waits, `true` or `false`; since 1.2.1.
pub const UPDATES_PENDING: &str = "particle/device/updates/pending";
/// Server: the device was claimed; every name that begins so clears its claim code.
pub const CLAIM_PREFIX: &str = "spark/device/claim/";
/// Server: restart, with the way in the data.
pub const RESET: &str = "spark/device/reset";
/// Server: restore the server key; every name that begins so.
pub const KEY_RESTORE: &str = "spark/device/key/restore";
/// Server about a device: `online` or `offline`.
pub const STATUS: &str = "spark/status";
/// Server about a device: `started`, `success` or `failed`.
pub const FLASH_STATUS: &str = "spark/flash/status";
/// Server about a device: hash of its application.
pub const APP_HASH: &str = "spark/device/app-hash";
/// Server: an update of system modules begins; the data is the module index.
pub const SAFE_MODE_UPDATING: &str = "spark/safe-mode-updater/updating";
/// Prefix of all system events. Device OS 0.8 and later also subscribes to `particle`.
pub const PREFIX: &str = "spark";
/// The other prefix, of newer events.
pub const PARTICLE_PREFIX: &str = "particle";
