//! `spark-keys`: the key field's check, and key files of any form.

use spark_keys::{device_key::FIELD_LEN, private_key::Number};
use spark_keys::{
    DeviceKey, KeyForm, RsaPrivateKeyView, RsaPublicKeyView, check as check_field, is_interrupted_write,
    load_device_key, load_public_key, pem, published_by_device,
};

/// A clean field works, findings have texts, and the numbers survive encoding.
pub fn check(data: &[u8]) {
    let report = check_field(data);
    for finding in report.findings() {
        assert!(!finding.code().is_empty() && !finding.next_step().is_empty());
    }
    assert!(!report.is_clean() || report.device_works());
    let _ = (KeyForm::of(data), published_by_device(data), report.fingerprint());
    let (a, b) = data.split_at(data.len() / 2);
    let _ = is_interrupted_write(data, a, b);

    let Ok(key) = RsaPrivateKeyView::parse(data) else { return };
    let mut out = [0; 4096];
    if let Ok(der) = key.encode_into(&mut out) {
        assert_eq!(der.len(), key.encoded_len());
        let again = RsaPrivateKeyView::parse(der).expect("canonical DER");
        assert!(again.is_minimal() && again.trailing().is_empty());
        for number in Number::ALL {
            assert_eq!(again.number(number).magnitude(), key.number(number).magnitude());
        }
    }
    let _ = key.fingerprint();
}

/// A key that loads is a clean field, and its PEM form loads as the same key.
pub fn load(data: &[u8]) {
    if let Ok(key) = load_device_key(data) {
        assert_eq!(key.as_field().len(), FIELD_LEN);
        assert!(check_field(key.as_field()).device_works());
        assert_eq!(key.public_key(), published_by_device(key.as_field()));
        let mut text = [0; 2048];
        let text = pem::encode(KeyForm::Pkcs1Private, key.as_der(), &mut text).expect("it fits");
        let again: DeviceKey = load_device_key(text.as_bytes()).expect("our own PEM");
        assert_eq!(again.as_der(), key.as_der());
    }
    let mut buffer = [0; 2048];
    if let Ok(key) = load_public_key(data, &mut buffer) {
        let _ = (key.bits(), key.is_server_key(), key.fingerprint());
        assert!(key.same_modulus(&key));
    }
    if let Ok(strict) = RsaPublicKeyView::parse_spki_strict(data) {
        let lenient = RsaPublicKeyView::parse_spki(data).expect("lenient takes what strict takes");
        assert!(strict.same_modulus(&lenient) && strict.der_len() == data.len());
    }
}
