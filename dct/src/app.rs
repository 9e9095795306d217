//! View and editor of the application section.

mod country;
mod editor;

pub use country::CountryCode;
pub use editor::AppMut;

use crate::eap_config::EapConfig;
use crate::field::Field;
use crate::flash_module::{self, FlashModule};
use crate::ip_config::IpConfig;
use crate::mirror::{ButtonMirror, LedMirror};
use crate::power_config::{self, PowerConfig};
use crate::segment::KeyAlgorithm;
use crate::server_address::{self, AddressError, ServerAddress};
use crate::server_key_region::{RegionError, RegionView, ServerKeyRegion};
use crate::system_flags::SystemFlags;
use core::ops::Range;

/// Length of the structure from v0.7.0 on.
pub const LEN: usize = 8391;
/// Length before v0.7.0 (4260 before v0.4.5, with two bytes of tail padding).
pub const LEN_OLD: usize = 4258;
/// Longest image that is accepted: a whole sector.
pub const MAX_LEN: usize = 16384;
/// Bytes of the device's private key field that the firmware reads and writes.
pub const DEVICE_PRIVATE_KEY_READ: usize = 612;

/// Read access to an application section (`application_dct_t`) of any firmware version.
///
/// Accepts images of 4258 to 16384 bytes: a DFU read of alternate setting 1, the part of a flash sector from
/// [`wiced::APP_OFFSET`](crate::wiced::APP_OFFSET) on, or the file of a Gen 3 device. A shorter image than a field
/// needs reads as FF there, as erased flash would.
///
/// ```
/// use spark_dct::App;
/// let image = [0xFF; 8391];
/// let app = App::new(&image)?;
/// assert!(!app.claimed());
/// assert!(app.device_private_key().is_none());
/// # Ok::<(), spark_dct::app::AppError>(())
/// ```
#[derive(Clone, Copy)]
pub struct App<'a> {
    image: &'a [u8],
}

impl<'a> App<'a> {
    /// Looks at an image.
    ///
    /// # Errors
    /// [`AppError::Length`] outside of 4258 to 16384 bytes.
    pub fn new(image: &'a [u8]) -> Result<Self, AppError> {
        check_len(image.len())?;
        Ok(Self { image })
    }

    /// The image.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.image
    }

    /// `N` bytes from `offset`, FF where the image has none.
    #[must_use]
    pub fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        core::array::from_fn(|i| {
            offset.checked_add(i).and_then(|at| self.image.get(at)).copied().unwrap_or(0xFF)
        })
    }

    /// Copies a field into `out` (FF where the image has no bytes) and returns the part of `out` that it fills.
    ///
    /// # Errors
    /// [`AppError::BufferTooSmall`].
    pub fn read_into<'b>(&self, field: Field, out: &'b mut [u8]) -> Result<&'b [u8], AppError> {
        let available = out.len();
        let target = out.get_mut(..field.len()).ok_or(AppError::BufferTooSmall {
            field: field.name(),
            needed: field.len(),
            available,
        })?;
        for (slot, at) in target.iter_mut().zip(field.range()) {
            *slot = self.image.get(at).copied().unwrap_or(0xFF);
        }
        Ok(target)
    }

    /// The bytes of a field, cut where the image ends. Fields up to `led_theme` are always whole.
    #[must_use]
    pub fn bytes(&self, field: Field) -> &'a [u8] {
        self.image.get(field.offset()..field.end().min(self.image.len())).unwrap_or(&[])
    }

    /// Whether every byte of the field is FF.
    #[must_use]
    pub fn is_erased(&self, field: Field) -> bool {
        self.bytes(field).iter().all(|byte| *byte == 0xFF)
    }

    /// Flags shared with the bootloader.
    #[must_use]
    pub fn system_flags(&self) -> SystemFlags<'a> {
        SystemFlags::new(self.part(Field::SYSTEM_FLAGS.offset()))
    }

    /// The 612 readable bytes of the device's private key, `None` when the first one is FF ("no key" for the
    /// firmware). They may hold anything, and stale bytes may follow the key.
    #[must_use]
    pub fn device_private_key(&self) -> Option<&'a [u8; DEVICE_PRIVATE_KEY_READ]> {
        let key = self.device_private_key_field();
        if key[0] == 0xFF { None } else { Some(key) }
    }

    /// The 612 readable bytes of the device's private key, whatever they hold.
    #[must_use]
    pub fn device_private_key_field(&self) -> &'a [u8; DEVICE_PRIVATE_KEY_READ] {
        self.part(Field::DEVICE_PRIVATE_KEY.offset())
    }

    /// The cached public key: 384 bytes, an SPKI of 162 and the rest 00 when the firmware wrote it.
    #[must_use]
    pub fn device_public_key(&self) -> &'a [u8; 384] {
        self.part(Field::DEVICE_PUBLIC_KEY.offset())
    }

    /// The first 294 bytes of the server key region, `None` when all are FF.
    #[must_use]
    pub fn server_public_key(&self) -> Option<&'a [u8; 294]> {
        let key: &[u8; 294] = self.part(Field::SERVER_PUBLIC_KEY.offset());
        if key.iter().all(|byte| *byte == 0xFF) { None } else { Some(key) }
    }

    /// Key and address of the server for TCP (RSA) or UDP (EC).
    ///
    /// # Errors
    /// None in practice: both regions are always within the image.
    pub fn server_key_region(&self, algorithm: KeyAlgorithm) -> Result<RegionView<'a>, RegionError> {
        let region = self.image.get(server_key_range(algorithm)).unwrap_or_default();
        ServerKeyRegion::parse(algorithm, region)
    }

    /// Server address for TCP, `None` when there is none.
    ///
    /// # Errors
    /// As [`ServerAddress::parse`].
    pub fn server_address(&self) -> Result<Option<ServerAddress<'a>>, AddressError> {
        ServerAddress::parse(self.server_address_block())
    }

    /// The 128 bytes of the server address for TCP.
    #[must_use]
    pub fn server_address_block(&self) -> &'a [u8; server_address::LEN] {
        self.part(Field::SERVER_PUBLIC_KEY.offset() + KeyAlgorithm::Rsa.server_address_at())
    }

    /// Server address for UDP, `None` when there is none.
    ///
    /// # Errors
    /// As [`ServerAddress::parse`].
    pub fn alt_server_address(&self) -> Result<Option<ServerAddress<'a>>, AddressError> {
        ServerAddress::parse(self.part(Field::ALT_SERVER_ADDRESS.offset()))
    }

    /// Whether the device is claimed: the byte is ASCII `'1'`. Binary 1 is not.
    #[must_use]
    pub fn claimed(&self) -> bool {
        self.array(Field::CLAIMED.offset()) == [b'1']
    }

    /// Claim code, up to 63 characters.
    #[must_use]
    pub fn claim_code(&self) -> Option<&'a [u8]> {
        text(self.bytes(Field::CLAIM_CODE))
    }

    /// Prefix of the soft-AP name; `None` when unset or when the length byte is above 25.
    #[must_use]
    pub fn ssid_prefix(&self) -> Option<&'a [u8]> {
        let (length, characters) = self.bytes(Field::SSID_PREFIX).split_first()?;
        if *length == 0 { None } else { characters.get(..usize::from(*length)) }
    }

    /// Suffix of the soft-AP name, up to 6 characters.
    #[must_use]
    pub fn device_code(&self) -> Option<&'a [u8]> {
        text(self.bytes(Field::DEVICE_CODE))
    }

    /// Country of the Wi-Fi limits; `None` when unset, which the firmware takes for Japan.
    #[must_use]
    pub fn country_code(&self) -> Option<CountryCode> {
        CountryCode::decode(self.part(Field::COUNTRY_CODE.offset()))
    }

    /// The five slots for module copies; slot 0 is the factory copy.
    #[must_use]
    pub fn flash_modules(&self) -> [FlashModule; flash_module::SLOTS] {
        core::array::from_fn(|i| {
            FlashModule::decode(self.part(Field::FLASH_MODULES.offset() + i * flash_module::LEN))
        })
    }

    /// Twelve product numbers; FFFF when unset.
    #[must_use]
    pub fn product_store(&self) -> [u16; 12] {
        core::array::from_fn(|i| u16::from_le_bytes(self.array(Field::PRODUCT_STORE.offset() + 2 * i)))
    }

    /// The device id copied here by v0.6.0 and later.
    #[must_use]
    pub fn device_id(&self) -> Option<&'a [u8; 12]> {
        let id: &[u8; 12] = self.part(Field::DEVICE_ID.offset());
        if id.iter().all(|byte| *byte == 0xFF) { None } else { Some(id) }
    }

    /// Whether an update waits in the update region (A5).
    #[must_use]
    pub fn ota_update_flag(&self) -> bool {
        self.array(Field::OTA_UPDATE_FLAG.offset()) == [0xA5]
    }

    /// Address configuration.
    #[must_use]
    pub fn ip_config(&self) -> IpConfig {
        IpConfig::decode(self.part(Field::IP_CONFIG.offset()))
    }

    /// Feature bits, set = on; erased = all on.
    #[must_use]
    pub fn feature_flags(&self) -> u32 {
        u32::from_le_bytes(self.array(Field::FEATURE_FLAGS.offset()))
    }

    /// WPA Enterprise settings, `None` when the image ends before them. Firmware before v0.7.0 has other bytes there.
    #[must_use]
    pub fn eap_config(&self) -> Option<EapConfig<'a>> {
        self.image.get(Field::EAP_CONFIG.offset()..)?.first_chunk().map(EapConfig::new)
    }

    /// Power management settings, `None` when they are erased or the image ends before them: firmware has its own defaults then.
    #[must_use]
    pub fn power_config(&self) -> Option<PowerConfig> {
        let raw = self.image.get(Field::POWER_CONFIG.offset()..)?.first_chunk()?;
        (*raw != [0xFF; power_config::LEN]).then(|| PowerConfig::decode(raw))
    }

    /// Protocol of an Electron's connection to its cloud. Other devices do not look at it.
    #[must_use]
    pub fn cloud_transport(&self) -> CloudTransport {
        match self.array(Field::CLOUD_TRANSPORT.offset()) {
            [0xFF] => CloudTransport::Udp,
            _ => CloudTransport::Tcp,
        }
    }

    /// Whether the P1's WLAN sleep clock runs: not if the low two bits of `radio_flags` are `10`.
    #[must_use]
    pub fn is_wlan_sleep_clock_on(&self) -> bool {
        let [flags] = self.array(Field::RADIO_FLAGS.offset());
        flags & SLEEP_CLOCK_MASK != SLEEP_CLOCK_OFF
    }

    /// The bootloader's mirror of the mode button.
    #[must_use]
    pub fn mode_button_mirror(&self) -> ButtonMirror<'a> {
        ButtonMirror::new(self.part(Field::MODE_BUTTON_MIRROR.offset()))
    }

    /// The bootloader's mirrors of four LEDs.
    #[must_use]
    pub fn led_mirrors(&self) -> [LedMirror<'a>; 4] {
        core::array::from_fn(|i| LedMirror::new(self.part(Field::LED_MIRROR.offset() + 24 * i)))
    }

    /// Whether a feature is on: bit 0 keep reset information, bit 1 LED overridden. Erased: on.
    #[must_use]
    pub fn is_feature_on(&self, bit: u8) -> bool {
        self.feature_flags() >> (bit & 31) & 1 == 1
    }

    /// `N` bytes from `offset`; `offset + N` is below 4258 at every call, which `new` guarantees to exist.
    fn part<const N: usize>(&self, offset: usize) -> &'a [u8; N] {
        self.image.get(offset..).and_then(<[u8]>::first_chunk).unwrap_or(const { &[0xFF; N] })
    }
}

impl core::fmt::Debug for App<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the image holds a private key
        f.debug_struct("App").field("len", &self.image.len()).finish_non_exhaustive()
    }
}

/// Where key and address of the server are.
const fn server_key_range(algorithm: KeyAlgorithm) -> Range<usize> {
    let start = match algorithm {
        KeyAlgorithm::Rsa => Field::SERVER_PUBLIC_KEY.offset(),
        KeyAlgorithm::Ec => Field::ALT_SERVER_PUBLIC_KEY.offset(),
    };
    start..start + algorithm.server_field_len()
}

fn check_len(length: usize) -> Result<(), AppError> {
    if (LEN_OLD..=MAX_LEN).contains(&length) { Ok(()) } else { Err(AppError::Length { length }) }
}

/// Text that ends with the field or at the first 00 or FF; `None` when nothing is left.
fn text(field: &[u8]) -> Option<&[u8]> {
    let end = field.iter().position(|byte| matches!(byte, 0 | 0xFF)).unwrap_or(field.len());
    field.get(..end).filter(|text| !text.is_empty())
}

/// Low two bits of `radio_flags`.
const SLEEP_CLOCK_MASK: u8 = 0b11;
const SLEEP_CLOCK_OFF: u8 = 0b10;

/// Protocol of the connection to the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "one value of the byte and all others")]
pub enum CloudTransport {
    /// FF.
    Udp,
    /// Anything else; the host tool writes 00.
    Tcp,
}

/// Why an image or an edit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AppError {
    /// Not an application section.
    #[error(
        "application section has {length} bytes where 4258 to 16384 are possible; read the whole section"
    )]
    Length {
        /// Length found.
        length: usize,
    },
    /// The value does not have the field's length.
    #[error("value for field {field} has {found} bytes where it takes {expected}; pad or shorten it")]
    FieldLength {
        /// Name of the field.
        field: &'static str,
        /// Length of the field.
        expected: usize,
        /// Length of the value.
        found: usize,
    },
    /// The image ends before the field does.
    #[error(
        "field {field} ends at {end} but the image has only {length} bytes; use an image of newer firmware"
    )]
    OutsideImage {
        /// Name of the field.
        field: &'static str,
        /// First byte after the field.
        end: usize,
        /// Length of the image.
        length: usize,
    },
    /// The caller's buffer is too short.
    #[error("field {field} needs {needed} bytes but the buffer has {available}; give a larger buffer")]
    BufferTooSmall {
        /// Name of the field.
        field: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes available.
        available: usize,
    },
    /// A byte of a text would end it.
    #[error("text for field {field} has a 00 or FF at position {at}, which ends a text; leave it out")]
    Character {
        /// Name of the field.
        field: &'static str,
        /// Position in the text.
        at: usize,
    },
    /// No such slot.
    #[error("flash module slot {slot} does not exist; there are slots 0 to 4")]
    Slot {
        /// Slot asked for.
        slot: usize,
    },
}

#[cfg(test)]
mod tests;
