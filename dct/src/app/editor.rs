//! Editor of the application section.

use super::{
    App, AppError, CloudTransport, CountryCode, DEVICE_PRIVATE_KEY_READ, SLEEP_CLOCK_MASK, SLEEP_CLOCK_OFF,
    check_len, server_key_range,
};
use crate::field::Field;
use crate::flash_module::{self, FlashModule};
use crate::ip_config::IpConfig;
use crate::power_config::PowerConfig;
use crate::segment::KeyAlgorithm;
use crate::server_address::{self, ServerAddress};
use crate::server_key_region::ServerKeyRegion;
use crate::system_flags::SystemFlagsMut;

/// Longest prefix of the soft-AP name.
const SSID_PREFIX_LEN: usize = 25;

/// Write access to an application section; bytes outside of the field that is set never change.
///
/// ```
/// use spark_dct::{App, AppMut, Field};
/// let mut image = [0xFF; 8391];
/// AppMut::new(&mut image)?.set_claimed(true)?;
/// assert!(App::new(&image)?.claimed());
/// # Ok::<(), spark_dct::app::AppError>(())
/// ```
pub struct AppMut<'a> {
    image: &'a mut [u8],
}

impl<'a> AppMut<'a> {
    /// Takes an image for editing.
    ///
    /// # Errors
    /// [`AppError::Length`] outside of 4258 to 16384 bytes.
    pub fn new(image: &'a mut [u8]) -> Result<Self, AppError> {
        check_len(image.len())?;
        Ok(Self { image })
    }

    /// The image as it is now.
    #[must_use]
    pub fn view(&self) -> App<'_> {
        App { image: self.image }
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.image
    }

    /// Sets all bytes of a field.
    ///
    /// # Errors
    /// [`AppError::FieldLength`] unless `value` is as long as the field; [`AppError::OutsideImage`] when the image
    /// ends before the field does.
    pub fn set(&mut self, field: Field, value: &[u8]) -> Result<(), AppError> {
        if value.len() != field.len() {
            return Err(AppError::FieldLength {
                field: field.name(),
                expected: field.len(),
                found: value.len(),
            });
        }
        self.field_mut(field)?.copy_from_slice(value);
        Ok(())
    }

    /// Sets the first bytes of a field and leaves the others as they are.
    ///
    /// # Errors
    /// [`AppError::FieldLength`] when `value` is longer than the field; [`AppError::OutsideImage`].
    pub fn set_prefix(&mut self, field: Field, value: &[u8]) -> Result<(), AppError> {
        let target = self.field_mut(field)?;
        let error = AppError::FieldLength { field: field.name(), expected: field.len(), found: value.len() };
        target.get_mut(..value.len()).ok_or(error)?.copy_from_slice(value);
        Ok(())
    }

    /// Fills a field with FF.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`].
    pub fn erase(&mut self, field: Field) -> Result<(), AppError> {
        self.field_mut(field)?.fill(0xFF);
        Ok(())
    }

    /// Writes the device's private key and FF up to byte 612, as firmware v1.0.0 does; the rest of the field stays.
    ///
    /// # Errors
    /// [`AppError::FieldLength`] when `der` is longer than 612 bytes.
    pub fn set_device_private_key(&mut self, der: &[u8]) -> Result<(), AppError> {
        let mut padded = [0xFF; DEVICE_PRIVATE_KEY_READ];
        let error = AppError::FieldLength {
            field: Field::DEVICE_PRIVATE_KEY.name(),
            expected: DEVICE_PRIVATE_KEY_READ,
            found: der.len(),
        };
        padded.get_mut(..der.len()).ok_or(error)?.copy_from_slice(der);
        self.set_prefix(Field::DEVICE_PRIVATE_KEY, &padded)
    }

    /// Writes server key and server address for TCP (RSA) or UDP (EC), and FF in the rest of the region.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds both regions.
    pub fn set_server_key_region(&mut self, region: &ServerKeyRegion<'_>) -> Result<(), AppError> {
        let algorithm = region.key().algorithm();
        let range = server_key_range(algorithm);
        let field = match algorithm {
            KeyAlgorithm::Rsa => Field::SERVER_PUBLIC_KEY,
            KeyAlgorithm::Ec => Field::ALT_SERVER_PUBLIC_KEY,
        };
        let outside =
            AppError::OutsideImage { field: field.name(), end: range.end, length: self.image.len() };
        region.encode_into(self.image.get_mut(range).ok_or(outside)?).map_err(|_| outside)
    }

    /// Writes the server address for TCP and leaves the key.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the region.
    pub fn set_server_address(&mut self, address: &ServerAddress<'_>) -> Result<(), AppError> {
        let field = Field::SERVER_PUBLIC_KEY;
        let target = self.field_mut(field)?;
        if let Some(block) =
            target.get_mut(KeyAlgorithm::Rsa.server_address_at()..).and_then(<[u8]>::first_chunk_mut)
        {
            address.encode_into(block);
        }
        Ok(())
    }

    /// Writes the server address for UDP and leaves the key.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn set_alt_server_address(&mut self, address: &ServerAddress<'_>) -> Result<(), AppError> {
        let mut block = [0xFF; server_address::LEN];
        address.encode_into(&mut block);
        self.set(Field::ALT_SERVER_ADDRESS, &block)
    }

    /// Writes the address configuration.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn set_ip_config(&mut self, config: &IpConfig) -> Result<(), AppError> {
        self.set(Field::IP_CONFIG, &config.encode())
    }

    /// Writes a claim code of up to 63 characters. An empty one is [cleared](Self::clear_claim_code).
    ///
    /// # Errors
    /// [`AppError::FieldLength`] when it is longer, [`AppError::Character`] for a byte that would end it.
    pub fn set_claim_code(&mut self, code: &[u8]) -> Result<(), AppError> {
        if code.is_empty() { self.clear_claim_code() } else { self.set_plain_text(Field::CLAIM_CODE, code) }
    }

    /// Writes the suffix of the soft-AP name, up to 6 characters; an empty one is erased.
    ///
    /// # Errors
    /// [`AppError::FieldLength`] when it is longer, [`AppError::Character`] for a byte that would end it.
    pub fn set_device_code(&mut self, code: &[u8]) -> Result<(), AppError> {
        if code.is_empty() {
            self.erase(Field::DEVICE_CODE)
        } else {
            self.set_plain_text(Field::DEVICE_CODE, code)
        }
    }

    /// Writes the prefix of the soft-AP name, up to 25 bytes; an empty one is erased, and firmware stores its default.
    ///
    /// # Errors
    /// [`AppError::FieldLength`] when it is longer.
    pub fn set_ssid_prefix(&mut self, prefix: &[u8]) -> Result<(), AppError> {
        let field = Field::SSID_PREFIX;
        let length = prefix.len();
        let mut raw = [0xFF; SSID_PREFIX_LEN + 1];
        let (first, room) = raw.split_at_mut(1);
        let error = AppError::FieldLength { field: field.name(), expected: SSID_PREFIX_LEN, found: length };
        room.get_mut(..length).ok_or(error)?.copy_from_slice(prefix);
        if length > 0 {
            first.fill(u8::try_from(length).unwrap_or(0xFF));
        }
        self.set(field, &raw)
    }

    /// Text, 00 where there is room, FF.
    fn set_plain_text(&mut self, field: Field, text: &[u8]) -> Result<(), AppError> {
        let name = field.name();
        if let Some(at) = text.iter().position(|byte| matches!(byte, 0 | 0xFF)) {
            return Err(AppError::Character { field: name, at });
        }
        let error = AppError::FieldLength { field: name, expected: field.len(), found: text.len() };
        let target = self.field_mut(field)?;
        let (room, rest) = target.split_at_mut_checked(text.len()).ok_or(error)?;
        room.copy_from_slice(text);
        rest.fill(0xFF);
        if let Some(end) = rest.first_mut() {
            *end = 0;
        }
        Ok(())
    }

    /// Marks the device as claimed (ASCII `'1'`) or not (FF).
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn set_claimed(&mut self, claimed: bool) -> Result<(), AppError> {
        self.set(Field::CLAIMED, &[if claimed { b'1' } else { 0xFF }])
    }

    /// Clears the claim code as the firmware does: one 00 in the first byte, the others stay.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn clear_claim_code(&mut self) -> Result<(), AppError> {
        self.set_prefix(Field::CLAIM_CODE, &[0])
    }

    /// Writes one slot for a module copy.
    ///
    /// # Errors
    /// [`AppError::Slot`] when there is no such slot.
    pub fn set_flash_module(&mut self, slot: usize, module: &FlashModule) -> Result<(), AppError> {
        let target = self.field_mut(Field::FLASH_MODULES)?;
        let record = target.chunks_exact_mut(flash_module::LEN).nth(slot).ok_or(AppError::Slot { slot })?;
        record.copy_from_slice(&module.encode());
        Ok(())
    }

    /// Editor of the flags shared with the bootloader.
    ///
    /// # Panics
    /// Never: every image holds the field.
    pub fn system_flags(&mut self) -> SystemFlagsMut<'_> {
        #[allow(clippy::expect_used, reason = "an image has 4258 bytes or more")]
        SystemFlagsMut::new(self.image.first_chunk_mut().expect("the field lies within the image"))
    }

    /// Switches a feature: bit 0 keep reset information, bit 1 LED overridden.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn set_feature(&mut self, bit: u8, on: bool) -> Result<(), AppError> {
        let mask = 1_u32 << (bit & 31);
        let flags = self.view().feature_flags();
        let flags = if on { flags | mask } else { flags & !mask };
        self.set(Field::FEATURE_FLAGS, &flags.to_le_bytes())
    }

    /// Sets the protocol of an Electron's connection: FF, or the 00 of the host tool.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn set_cloud_transport(&mut self, transport: CloudTransport) -> Result<(), AppError> {
        let byte = match transport {
            CloudTransport::Udp => 0xFF,
            CloudTransport::Tcp => 0x00,
        };
        self.set(Field::CLOUD_TRANSPORT, &[byte])
    }

    /// Switches the P1's WLAN sleep clock; the other bits of `radio_flags` stay.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn set_wlan_sleep_clock(&mut self, on: bool) -> Result<(), AppError> {
        let [flags] = self.view().array(Field::RADIO_FLAGS.offset());
        let bits = if on { SLEEP_CLOCK_MASK } else { SLEEP_CLOCK_OFF };
        self.set(Field::RADIO_FLAGS, &[flags & !SLEEP_CLOCK_MASK | bits])
    }

    /// Writes the country of the Wi-Fi limits, `None` for "not set".
    ///
    /// # Errors
    /// [`AppError::OutsideImage`]; does not happen, as every image holds the field.
    pub fn set_country_code(&mut self, country: Option<CountryCode>) -> Result<(), AppError> {
        self.set(Field::COUNTRY_CODE, &country.map_or([0xFF; 4], |country| country.encode()))
    }

    /// Writes the power management settings.
    ///
    /// # Errors
    /// [`AppError::OutsideImage`].
    pub fn set_power_config(&mut self, config: &PowerConfig) -> Result<(), AppError> {
        self.set(Field::POWER_CONFIG, &config.encode())
    }

    fn field_mut(&mut self, field: Field) -> Result<&mut [u8], AppError> {
        let length = self.image.len();
        self.image.get_mut(field.range()).ok_or(AppError::OutsideImage {
            field: field.name(),
            end: field.end(),
            length,
        })
    }
}

impl core::fmt::Debug for AppMut<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AppMut").field("len", &self.image.len()).finish_non_exhaustive()
    }
}
