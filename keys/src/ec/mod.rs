//! EC P-256 keys of UDP devices: SEC1, PKCS#8 and SPKI.

mod device_key;
mod private_key;
mod public_key;

pub use device_key::{EC_DER_LEN, EC_FIELD_LEN, EC_PKCS8_LEN, EcDeviceKey};
pub use private_key::{EcKeyError, EcPrivateKeyView};
pub use public_key::{EcPublicKeyView, POINT_LEN, SPKI_P256_LEN, spki_p256};

use p256::elliptic_curve::point::{AffineCoordinates, DecompressPoint};
use p256::elliptic_curve::subtle::Choice;
use p256::{AffinePoint, FieldBytes, NonZeroScalar, ProjectivePoint};

/// `1.2.840.10045.2.1`, id-ecPublicKey
pub(crate) const EC_PUBLIC_KEY: [u8; 7] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
/// `1.2.840.10045.3.1.7`, prime256v1
pub(crate) const PRIME256V1: [u8; 8] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];

/// Bytes of a private number and of a coordinate.
const SIZE: usize = 32;

/// x and y of the point that belongs to a private number; `None` for 0 and for numbers beyond the order of the curve.
fn point_of(scalar: &[u8; SIZE]) -> Option<[u8; POINT_LEN]> {
    use p256::elliptic_curve::PrimeField;
    let scalar = p256::Scalar::from_repr(FieldBytes::from(*scalar)).into_option()?;
    let scalar = NonZeroScalar::new(scalar).into_option()?;
    Some(coordinates(&(ProjectivePoint::GENERATOR * *scalar).to_affine()))
}

/// x and y of an encoded point (`04` x y, `02` x or `03` x); `None` when it is not on the curve.
fn decode_point(encoded: &[u8]) -> Option<[u8; POINT_LEN]> {
    let (form, rest) = encoded.split_first()?;
    let point = match (form, rest.split_first_chunk::<SIZE>()?) {
        (4, (x, y)) => {
            let y: &[u8; SIZE] = y.try_into().ok()?;
            AffinePoint::from_coordinates(&FieldBytes::from(*x), &FieldBytes::from(*y))
        }
        (2 | 3, (x, [])) => AffinePoint::decompress(&FieldBytes::from(*x), Choice::from(form & 1)),
        _ => return None,
    };
    point.into_option().map(|point| coordinates(&point))
}

fn coordinates(point: &AffinePoint) -> [u8; POINT_LEN] {
    let mut out = [0; POINT_LEN];
    for (slot, byte) in out.iter_mut().zip(point.x().iter().chain(point.y().iter())) {
        *slot = *byte;
    }
    out
}
