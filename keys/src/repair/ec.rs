//! The EC private key: its number is all that matters, when something confirms it.

use super::RepairError;
use crate::der::DerError;
use crate::ec::{EcDeviceKey, EcPrivateKeyView, EcPublicKeyView};
use crate::form::KeyForm;
use crate::load::{MAX_DER, Unpacked, load_ec_device_key, unpack};
use zeroize::Zeroize;

/// Where the private number and the point stand in the canonical key.
const SEC1: (usize, usize) = (7, 57);
/// Where they stand when it is in PKCS#8.
const PKCS8: (usize, usize) = (36, 74);

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
/// [`RepairError::UnconfirmedNumber`] when the number is in range but nothing confirms it, [`RepairError::OtherKey`] when the field holds
/// a whole key, but of another public key; else as [`repair`](super::repair()).
pub fn repair_ec(field: &[u8], public: Option<&EcPublicKeyView<'_>>) -> Result<EcDeviceKey, RepairError> {
    for (fill, error) in [(0xFF, RepairError::Erased), (0x00, RepairError::Zeroed)] {
        if field.iter().all(|byte| *byte == fill) {
            return Err(error);
        }
    }
    let mut scratch = [0; MAX_DER];
    let key = unpacked(field, unpack(field, &mut scratch), public);
    scratch.zeroize();
    key
}

fn unpacked(
    field: &[u8],
    unpacked: Option<Unpacked<'_>>,
    public: Option<&EcPublicKeyView<'_>>,
) -> Result<EcDeviceKey, RepairError> {
    let whole = load_ec_device_key(field).ok();
    let (form, der) = unpacked.map_or((KeyForm::of(field), field), |key| (Some(key.form), key.der));
    let other_curve = [EcPrivateKeyView::parse_sec1(der), EcPrivateKeyView::parse_pkcs8(der)]
        .iter()
        .any(|read| matches!(read, Err(DerError::Curve { .. })));
    if other_curve {
        return Err(RepairError::OtherCurve);
    }
    let (number, point) = if form == Some(KeyForm::Pkcs8Ec) { PKCS8 } else { SEC1 };
    let at_its_place = || {
        let number = der.get(number..)?.first_chunk()?;
        EcDeviceKey::from_scalar(number).ok()
    };
    let is_whole = whole.is_some();
    let is_ec = matches!(form, Some(KeyForm::Sec1Ec | KeyForm::Pkcs8Ec));
    let lost = || match form {
        Some(form) if !is_ec => RepairError::Form { form },
        _ => RepairError::LOST,
    };
    let key = whole.or_else(at_its_place).ok_or_else(lost)?;
    let stored = der.get(point..).is_some_and(|rest| rest.starts_with(key.point()));
    match public {
        Some(public) if public.point() == key.point() => Ok(key),
        Some(_) if is_whole || stored => Err(RepairError::OtherKey { fingerprint: key.fingerprint() }),
        None if is_whole || stored => Ok(key),
        // any 32 bytes are a number in range: what else the field is decides
        None if is_ec => Err(RepairError::UnconfirmedNumber),
        _ => Err(lost()),
    }
}
