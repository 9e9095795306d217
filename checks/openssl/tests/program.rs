//! Every form, DER and PEM, RSA-1024, RSA-2048 and P-256, between spark-keys and the `openssl` program.
#![allow(missing_docs)]

use openssl_counterpart::{openssl, try_openssl};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use spark_keys::load::{MAX_DER, load};
use spark_keys::{
    EcDeviceKey, KeyForm, RsaPrivateKeyView, check, check_ec, generate, load_device_key, load_ec_device_key,
    pem, repair, rsa_backend,
};

const PRIVATE_RSA: [KeyForm; 2] = [KeyForm::Pkcs1Private, KeyForm::Pkcs8Private];
const PUBLIC_RSA: [KeyForm; 2] = [KeyForm::SpkiRsa, KeyForm::Pkcs1Public];
const PRIVATE_EC: [KeyForm; 2] = [KeyForm::Sec1Ec, KeyForm::Pkcs8Ec];

/// The key in a form, written by us.
fn ours(key: &[u8], form: KeyForm) -> Vec<u8> {
    let mut scratch = [0; MAX_DER];
    let loaded = load(key, &mut scratch).expect("a key");
    let mut out = [0; MAX_DER];
    loaded.key.encode_into(form, &mut out).expect("a form of its kind").to_vec()
}

fn text(der: &[u8], form: KeyForm) -> Vec<u8> {
    let mut out = [0; 2 * MAX_DER];
    pem::encode(form, der, &mut out).expect("it fits").as_bytes().to_vec()
}

/// The arguments with which openssl writes a form.
fn arguments(form: KeyForm, encoding: &str) -> String {
    let command = match form {
        KeyForm::Pkcs1Private => "rsa -traditional",
        KeyForm::Pkcs8Private | KeyForm::Pkcs8Ec => "pkcs8 -topk8 -nocrypt",
        KeyForm::SpkiRsa => "rsa -pubout",
        KeyForm::Pkcs1Public => "rsa -RSAPublicKey_out",
        KeyForm::Sec1Ec => "ec",
        KeyForm::SpkiEc => "ec -pubout",
        form => panic!("{form:?} is no form of a file"),
    };
    format!("{command} -in key -outform {encoding} -out out")
}

/// What openssl makes of a key file, in all forms, both encodings.
fn theirs(key: &[u8], form: KeyForm, encoding: &str) -> Vec<u8> {
    openssl(&arguments(form, encoding), &[("key", key)])
}

/// Name, any form of the key, its private and its public forms.
type Case = (&'static str, Vec<u8>, &'static [KeyForm], &'static [KeyForm]);

fn keys() -> Vec<Case> {
    const PUBLIC_EC: [KeyForm; 1] = [KeyForm::SpkiEc];
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let rsa1024 = generate::device_key(&mut rng).expect("a key").as_der().to_vec();
    let rsa2048 = rsa_backend::generate_server_key(&mut rng).expect("a key");
    let rsa2048 = rsa_backend::to_pkcs1(&rsa2048).expect("two primes").to_vec();
    let ec = EcDeviceKey::generate(&mut rng).as_der().to_vec();
    let their_1024 = openssl("genrsa 1024", &[]);
    let their_2048 = openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", &[]);
    let their_ec = openssl("ecparam -name prime256v1 -genkey", &[]);
    vec![
        ("rsa-1024", rsa1024, &PRIVATE_RSA, &PUBLIC_RSA),
        ("rsa-2048", rsa2048, &PRIVATE_RSA, &PUBLIC_RSA),
        ("p-256", ec, &PRIVATE_EC, &PUBLIC_EC),
        ("openssl rsa-1024", their_1024, &PRIVATE_RSA, &PUBLIC_RSA),
        ("openssl rsa-2048", their_2048, &PRIVATE_RSA, &PUBLIC_RSA),
        ("openssl p-256", their_ec, &PRIVATE_EC, &PUBLIC_EC),
    ]
}

#[test]
fn both_write_the_same_bytes_and_read_each_others() {
    for (name, key, private, public) in keys() {
        for form in private.iter().chain(public) {
            let der = ours(&key, *form);
            let pem = text(&der, *form);
            // openssl converts what we wrote as the first private form
            let source = text(&ours(&key, private[0]), private[0]);
            assert_eq!(theirs(&source, *form, "DER"), der, "{name} {form:?} DER");
            assert_eq!(theirs(&source, *form, "PEM"), pem, "{name} {form:?} PEM");
            for file in [&der, &pem] {
                let mut scratch = [0; MAX_DER];
                let loaded = load(file, &mut scratch).expect("our own file");
                assert_eq!((loaded.form, loaded.pem), (*form, file == &pem), "{name} {form:?}");
            }
        }
        // from each private form to each public one
        for from in private {
            let file = text(&ours(&key, *from), *from);
            for to in public {
                assert_eq!(theirs(&file, *to, "DER"), ours(&key, *to), "{name} {from:?} {to:?}");
            }
        }
    }
}

#[test]
fn openssl_finds_our_keys_consistent() {
    for (name, key, private, public) in keys() {
        for form in private {
            let der = ours(&key, *form);
            let said = openssl("pkey -in key -check -noout", &[("key", &text(&der, *form))]);
            assert!(String::from_utf8_lossy(&said).contains("Key is valid"), "{name} {form:?}");
            let said = openssl("pkey -inform DER -in key -check -noout", &[("key", &der)]);
            assert!(String::from_utf8_lossy(&said).contains("Key is valid"), "{name} {form:?}");
        }
        // the PKCS#1 form is not one of `pkey`
        let spki = ours(&key, public[0]);
        let said = openssl("pkey -pubin -inform DER -in key -pubcheck -noout", &[("key", &spki)]);
        assert!(String::from_utf8_lossy(&said).contains("Key is valid"), "{name}");
        if public.len() == 2 {
            let pkcs1 = ours(&key, public[1]);
            assert_eq!(
                openssl(
                    "rsa -RSAPublicKey_in -inform DER -in key -pubout -outform DER -out out",
                    &[("key", &pkcs1)]
                ),
                spki
            );
        }
    }
}

#[test]
fn the_host_tools_commands_give_a_file_that_the_device_cannot_use() {
    // as the host tool runs them, with OpenSSL 3
    let pem = openssl("genrsa -out out 1024", &[]);
    let der = openssl("rsa -in key -outform DER -out out", &[("key", &pem)]);
    let report = check(&der);
    let codes: Vec<_> = report.findings().map(|finding| finding.code()).collect();
    assert_eq!(codes, ["pkcs8-in-rsa-field"], "does this openssl write PKCS#1 by default?");
    assert!(!report.device_works());
    // one key in 100 is refused for another reason
    if let Ok(key) = load_device_key(&pem) {
        assert!(check(key.as_field()).is_clean());
        assert_eq!(load_device_key(&der).expect("the same key").as_der(), key.as_der());
        let public = openssl("rsa -in key -pubout -outform DER -out out", &[("key", &pem)]);
        assert_eq!(public, key.public_key());
    }
}

#[test]
fn ec_files_with_parameters_and_without_a_point_are_read() {
    let pem = openssl("ecparam -name prime256v1 -genkey", &[]);
    assert!(pem.starts_with(b"-----BEGIN EC PARAMETERS-----"));
    let key = load_ec_device_key(&pem).expect("a P-256 key");
    let der = openssl("ec -in key -outform DER -out out", &[("key", &pem)]);
    assert_eq!(der, key.as_der());
    assert!(check_ec(&der).is_clean());
    for options in ["-no_public", "-conv_form compressed"] {
        let other = openssl(&format!("ec -in key {options} -outform DER -out out"), &[("key", &pem)]);
        assert_ne!(other, der, "{options}");
        assert_eq!(load_ec_device_key(&other).expect("the same key").as_der(), key.as_der(), "{options}");
    }
    let text = String::from_utf8(pem).expect("text").replace('\n', "\r\n");
    assert_eq!(load_ec_device_key(text.as_bytes()).expect("CRLF").as_der(), key.as_der());
    let other_curve = openssl("ecparam -name secp384r1 -genkey", &[]);
    assert!(load_ec_device_key(&other_curve).is_err());
    let explicit = openssl("ecparam -name prime256v1 -genkey -param_enc explicit", &[]);
    assert!(load_ec_device_key(&explicit).is_err());
}

#[test]
fn keys_under_a_passphrase_are_refused_by_name() {
    let pem = openssl("genrsa 1024", &[]);
    for arguments in [
        "pkcs8 -topk8 -in key -passout pass:secret -out out",
        "rsa -in key -traditional -aes128 -passout pass:secret -out out",
    ] {
        let locked = openssl(arguments, &[("key", &pem)]);
        let error = load_device_key(&locked).expect_err("no passphrase was given");
        assert!(error.to_string().contains("passphrase"), "{error}");
    }
}

#[test]
fn openssl_names_what_our_check_names() {
    let key = generate::device_key(&mut ChaCha20Rng::seed_from_u64(4)).expect("a key");
    let view = RsaPrivateKeyView::parse(key.as_der()).expect("canonical");
    for (number, code, words) in [
        (spark_keys::private_key::Number::N, "modulus-is-not-p-times-q", "n does not equal p q"),
        (spark_keys::private_key::Number::D, "private-exponent-mismatch", "d e not congruent to 1"),
        (spark_keys::private_key::Number::Dp, "dp-mismatch", "dmp1 not congruent to d"),
        (spark_keys::private_key::Number::Dq, "dq-mismatch", "dmq1 not congruent to d"),
        (spark_keys::private_key::Number::Qinv, "qinv-mismatch", "iqmp not inverse of q"),
    ] {
        let integer = view.number(number);
        let header = if integer.encoded_len() < 128 { 2 } else { 3 };
        let mut damaged = key.as_der().to_vec();
        damaged[integer.offset() + header + integer.encoded_len() - 1] ^= 2;
        let codes: Vec<_> = check(&damaged).findings().map(|finding| finding.code()).collect();
        assert!(codes.contains(&code), "{number}: {codes:?}");
        let (_, said, error) = try_openssl("rsa -inform DER -in key -check -noout", &[("key", &damaged)]);
        let said = String::from_utf8_lossy(&said).into_owned() + &error;
        assert!(said.contains(words), "{number}: {said}");
        // and what we rebuild is the key that openssl finds consistent again
        let repaired = repair(&damaged).expect("one number is damaged");
        assert_eq!(repaired.key.as_der(), key.as_der());
        let said = openssl("rsa -inform DER -in key -check -noout", &[("key", repaired.key.as_der())]);
        assert!(String::from_utf8_lossy(&said).contains("RSA key ok"), "{number}");
    }
}

#[test]
fn fingerprints_are_openssls_digest_of_the_public_key() {
    for (name, key, private, public) in keys() {
        let spki = ours(&key, public[0]);
        let said = openssl("dgst -sha256 -hex key", &[("key", &spki)]);
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let file = ours(&key, private[0]);
        let mut scratch = [0; MAX_DER];
        let fingerprint = load(&file, &mut scratch).expect("a key").key.fingerprint().expect("e is 65537");
        assert!(said.ends_with(&fingerprint.to_string()), "{name}: {said}");
    }
}
