//! What the benchmarks and the example `coap_ratios` share: OpenSSL as a peer, and a device that has sent its identity.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "four binaries use it, each a part"
)]

use coap_spark::handshake::{DeviceId, SEALED_IDENTITY_LEN, device, server};
use core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rsa::{RsaPrivateKey, RsaPublicKey};
use spark_keys::{RsaPrivateKeyView, rsa_backend};

#[cfg(feature = "openssl")]
pub use with_openssl::{BareOperations, OpenSsl, OpenSslServer};

pub const KEYS: [u8; 40] = [7; 40];
const DEVICE_DER: &[u8] = include_bytes!("../../../keys/tests/vectors/rsa1024_608.der");

/// A server that has all of a device's identity and has not looked at it.
pub struct Handshake {
    pub rng: ChaCha20Rng,
    pub server_pem: &'static [u8],
    pub server_key: RsaPrivateKey,
    pub device_public: RsaPublicKey,
    pub id: DeviceId,
    pub identity: [u8; SEALED_IDENTITY_LEN],
    pub waiting: server::AwaitIdentity,
}

impl Handshake {
    pub fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let server_pem = include_bytes!("../../../keys/tests/vectors/server2048.pem");
        let server_key = rsa_backend::load_server_key(server_pem).unwrap();
        let view = RsaPrivateKeyView::parse(DEVICE_DER).unwrap();
        let device_public = rsa_backend::to_rsa_private(&view).unwrap().to_public_key();

        let mut waiting = server::AwaitIdentity::start([3; 40], Duration::ZERO);
        let mut at_device = device::AwaitNonce::start(Duration::ZERO);
        at_device.push(waiting.nonce());
        let id = "53ff6d065072534212345667".parse().unwrap();
        let (state, job) = at_device.complete(id, None).unwrap();
        let encrypted = job.run(&server_key.to_public_key(), &mut rng);
        let (_, identity) = state.resume(encrypted, Duration::ZERO).unwrap();
        waiting.push(&identity);
        Self { rng, server_pem, server_key, device_public, id, identity, waiting }
    }
}

#[cfg(feature = "openssl")]
mod with_openssl {
    use super::{DEVICE_DER, Handshake, KEYS};
    use coap_spark::handshake::{DEVICE_PUBLIC_KEY_LEN, server};
    use coap_spark::session::SessionKeys;
    use core::hint::black_box;
    use openssl::cipher::Cipher;
    use openssl::cipher_ctx::CipherCtx;
    use openssl::pkey::{Private, Public};
    use openssl::rsa::{Padding, Rsa};
    use spark_keys::openssl_backend::{load_server_key, to_rsa_public};

    /// OpenSSL's AES-128-CBC with the same framing: one context for all frames, one new IV for each.
    pub struct OpenSsl {
        context: CipherCtx,
        iv: [u8; 16],
    }

    impl OpenSsl {
        pub fn sealer(keys: &SessionKeys) -> Self {
            let mut context = CipherCtx::new().unwrap();
            let cipher = Cipher::aes_128_cbc();
            context.encrypt_init(Some(cipher), Some(&keys.key()), Some(&keys.iv())).unwrap();
            Self { context, iv: keys.iv() }
        }

        pub fn opener(keys: &SessionKeys) -> Self {
            let mut context = CipherCtx::new().unwrap();
            let cipher = Cipher::aes_128_cbc();
            context.decrypt_init(Some(cipher), Some(&keys.key()), Some(&keys.iv())).unwrap();
            Self { context, iv: keys.iv() }
        }

        pub fn seal<'o>(&mut self, message: &[u8], out: &'o mut [u8]) -> &'o [u8] {
            self.context.encrypt_init(None, None, Some(&self.iv)).unwrap();
            let mut len = self.context.cipher_update(message, Some(&mut out[2..])).unwrap();
            len += self.context.cipher_final(&mut out[2 + len..]).unwrap();
            out[..2].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            self.iv.copy_from_slice(&out[2..18]);
            &out[..2 + len]
        }

        pub fn open(&mut self, body: &[u8], out: &mut [u8]) -> usize {
            self.context.decrypt_init(None, None, Some(&self.iv)).unwrap();
            let len = self.context.cipher_update(body, Some(out)).unwrap();
            self.iv.copy_from_slice(&body[..16]);
            len + self.context.cipher_final(&mut out[len..]).unwrap()
        }

        /// The last 16 bytes of the buffer are room that the `openssl` crate asks for.
        pub fn open_in_place(&mut self, buffer: &mut [u8]) -> usize {
            self.context.decrypt_init(None, None, Some(&self.iv)).unwrap();
            self.iv.copy_from_slice(&buffer[..16]);
            let len = self.context.cipher_update_inplace(buffer, buffer.len() - 16).unwrap();
            len + self.context.cipher_final(&mut buffer[len..]).unwrap()
        }
    }

    /// The server's part of the handshake with OpenSSL's keys, loaded once.
    pub struct OpenSslServer {
        handshake: Handshake,
        server_key: Rsa<Private>,
        device_public: Rsa<Public>,
    }

    impl OpenSslServer {
        pub fn new() -> Self {
            let handshake = Handshake::new();
            let server_key = load_server_key(handshake.server_pem).unwrap();
            let view = spark_keys::RsaPrivateKeyView::parse(DEVICE_DER).unwrap();
            Self { handshake, server_key, device_public: to_rsa_public(&view.public_key()).unwrap() }
        }

        pub fn answer(&mut self) {
            let Handshake { waiting, id, rng, .. } = &mut self.handshake;
            let look_up = |asked, _: Option<&[u8; DEVICE_PUBLIC_KEY_LEN]>| {
                (asked == *id).then(|| self.device_public.clone())
            };
            let session = SessionKeys::new(black_box(KEYS));
            let accepted = server::answer(waiting.clone(), &self.server_key, look_up, session, rng).unwrap();
            assert_eq!(accepted.device_id, *id);
        }
    }

    /// The two operations with the server's private key in a handshake, and nothing else.
    pub struct BareOperations {
        server_key: Rsa<Private>,
        identity: [u8; 256],
        padded: [u8; 256],
        signed: [u8; 256],
    }

    impl BareOperations {
        pub fn new(server_pem: &[u8], identity: [u8; 256]) -> Self {
            let server_key = load_server_key(server_pem).unwrap();
            Self { server_key, identity, padded: [0; 256], signed: [0; 256] }
        }

        pub fn run(&mut self) {
            let Self { server_key, identity, padded, signed } = self;
            server_key.private_decrypt(black_box(identity), padded, Padding::NONE).unwrap();
            server_key.private_encrypt(black_box(padded), signed, Padding::NONE).unwrap();
            assert_eq!(padded[..2], [0, 2]);
        }

        /// After a run.
        pub fn check(&self) {
            let mut block = [0; 256];
            self.server_key.public_decrypt(&self.signed, &mut block, Padding::NONE).unwrap();
            assert_eq!(block, self.padded);
        }
    }
}
