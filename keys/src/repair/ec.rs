//! The EC private key: its number is all that matters, when something confirms it.

use super::RepairError;
use crate::ec::{EcDeviceKey, EcPublicKeyView};
use crate::form::KeyForm;
use crate::load::load_ec_device_key;

/// Where the private number and the point stand in the canonical key.
const NUMBER: usize = 7;
const POINT: usize = 57;

/// Rebuilds the key in a UDP device's private key field (192 bytes), when headers or the point are damaged.
///
/// The private number has to be intact and confirmed: by the point that is stored, or by a public key known from elsewhere, for
/// instance the cloud's copy.
///
/// ```
/// # let mut field = *include_bytes!("../../tests/vectors/ec_p256.field192.bin");
/// # let spki = include_bytes!("../../tests/vectors/ec_p256.spki.der");
/// use spark_keys::{EcPublicKeyView, check_ec, repair::repair_ec};
/// // the point is lost
/// field[60..].fill(0xFF);
/// let key = repair_ec(&field, Some(&EcPublicKeyView::parse_spki(spki)?))?;
/// assert!(check_ec(key.as_field()).is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RepairError::Unconfirmed`] when the number is in range but nothing confirms it, [`RepairError::OtherKey`] when the field holds
/// a whole key, but of another public key; else as [`repair`](super::repair()).
pub fn repair_ec(field: &[u8], public: Option<&EcPublicKeyView<'_>>) -> Result<EcDeviceKey, RepairError> {
    for (fill, error) in [(0xFF, RepairError::Erased), (0x00, RepairError::Zeroed)] {
        if field.iter().all(|byte| *byte == fill) {
            return Err(error);
        }
    }
    let whole = load_ec_device_key(field).ok();
    let at_its_place = || {
        let number = field.get(NUMBER..)?.first_chunk()?;
        EcDeviceKey::from_scalar(number).ok()
    };
    let is_whole = whole.is_some();
    let Some(key) = whole.or_else(at_its_place) else {
        return Err(match KeyForm::of(field) {
            None | Some(KeyForm::Sec1Ec) => RepairError::LOST,
            Some(form) => RepairError::Form { form },
        });
    };
    let stored = field.get(POINT..).is_some_and(|rest| rest.starts_with(key.point()));
    match public {
        Some(public) if public.point() == key.point() => Ok(key),
        Some(_) if is_whole || stored => Err(RepairError::OtherKey { fingerprint: key.fingerprint() }),
        None if is_whole || stored => Ok(key),
        // any 32 bytes are a number in range: what else the field is decides
        _ => Err(match KeyForm::of(field) {
            Some(KeyForm::Sec1Ec) if public.is_none() => RepairError::Unconfirmed,
            None | Some(KeyForm::Sec1Ec) => RepairError::LOST,
            Some(form) => RepairError::Form { form },
        }),
    }
}
