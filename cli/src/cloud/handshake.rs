//! Steps 1 to 3 of a connection: who is it, and does it get in. RSA work on the pool, the recorded key from the database.

use super::crypto::DeviceKey;
use super::folder::{read_device_key, unix_time};
use super::limits::Seat;
use super::refusal::Refusal;
use super::store::{Device, KeyState};
use super::{Cloud, Enrolment};
use coap_spark::handshake::server::{Accepted, AwaitIdentity, Identified};
use coap_spark::handshake::{Cause, DeviceId, Failure, Stage};
use coap_spark::session::SessionKeys;
use coap_spark::tokio::handshake::read_identity;
use core::time::Duration;
use rand_core::Rng;
use spark_keys::Fingerprint;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// A device that may connect.
pub(super) struct Admitted {
    /// SubjectPublicKeyInfo of the key that it has to prove.
    pub(super) spki: Vec<u8>,
    /// Nothing was known about it: the key is recorded once it is proved.
    pub(super) first_use: bool,
}

/// Steps 1 to 3. Reads no byte behind the identity: what follows belongs to the session.
pub(super) async fn handshake(
    cloud: &Arc<Cloud>,
    socket: &mut TcpStream,
    claimed: &mut Option<DeviceId>,
    seat: &Seat,
) -> Result<(Box<Accepted>, Admitted), Refusal> {
    let mut nonce = [0; 40];
    rand::rng().fill_bytes(&mut nonce);
    let mut waiting = AwaitIdentity::start(nonce, Duration::ZERO);
    write(cloud, socket, &nonce).await.map_err(|error| Refusal::io(&error))?;

    read_identity(socket, &mut waiting, cloud.options.limits.identity_timeout).await?;
    let Ok((waiting, job)) = waiting.complete() else {
        return Err(Failure { stage: Stage::ReceiveIdentity, cause: Cause::Closed }.into());
    };
    seat.set_served(true);
    let worker = Arc::clone(cloud);
    let decrypted = cloud.workers.run(move || job.run(&worker.server_key, &mut rand::rng())).await?;
    let identified = waiting.resume(decrypted)?;
    *claimed = Some(identified.device_id());

    let (device_key, admitted) = authorise(cloud, &identified).await?;
    let mut session = Zeroizing::new([0; SessionKeys::LEN]);
    rand::rng().fill_bytes(session.as_mut_slice());
    cloud.log_session(&session);
    let (waiting, job) = identified.accept(SessionKeys::new(*session));
    let worker = Arc::clone(cloud);
    let sealed =
        cloud.workers.run(move || job.run(&device_key, &worker.server_key, &mut rand::rng())).await?;
    let accepted = waiting.resume(sealed)?;
    seat.set_served(false);
    write(cloud, socket, &accepted.message).await.map_err(|error| Refusal::io(&error))?;
    Ok((Box::new(accepted), admitted))
}

/// A device that does not take bytes for as long as it may be silent is gone.
async fn write(cloud: &Cloud, socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    match tokio::time::timeout(cloud.options.policy.idle_timeout, socket.write_all(bytes)).await {
        Ok(result) => result,
        Err(_) => {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the device does not take any bytes"))
        }
    }
}

/// The recorded key decides; an offered one is only compared, or taken where the operator said so. Nothing is proved yet:
/// anyone can offer any key for any id.
async fn authorise(cloud: &Cloud, identified: &Identified) -> Result<(DeviceKey, Admitted), Refusal> {
    let id = identified.device_id();
    let failed = |failure: crate::exit::Failure| Refusal::of_store(&failure);
    let device = cloud.store.device(id).map_err(failed)?.unwrap_or_default();
    let Some(offered) = identified.offered_key() else {
        // It does not say which of two keys it holds; a wrong guess is made good when it connects again.
        let next = device.next_key().filter(|_| rand::rng().next_u32().is_multiple_of(2));
        return match next.or(device.current_key()) {
            Some(record) => admit(cloud, record.spki(), false),
            None => Err(Refusal::of_row(
                "device-unknown",
                "unknown device that offers no key".to_owned(),
                format!("give the cloud its public key: `spark keys send-ready --cloud DIR {id}`"),
            )),
        };
    };
    let gets_in = |device: &Device| {
        let mut good = device.next_key().into_iter().chain(device.current_key());
        good.any(|record| record.spki() == offered[..])
    };
    if gets_in(&device) {
        return admit(cloud, offered.to_vec(), false);
    }
    if let Err(error) = read_device_key(offered) {
        let reason = format!("the device offers an unusable key: {error}");
        let advice = "write a new key to the device: `spark keys doctor`".to_owned();
        return Err(Refusal::of_row("record-unusable", reason, advice));
    }
    if cloud.options.enrolment == Enrolment::FirstUse && device.is_stranger() {
        return admit(cloud, offered.to_vec(), true);
    }
    let spki = offered.to_vec();
    let is_kept = device.keys.iter().any(|record| record.spki() == spki && record.state == KeyState::Offered);
    if !is_kept {
        // Its owner may accept it at this moment.
        let kept = cloud.store.change(move |transaction| {
            transaction.update_device(id, |device| {
                device.offer(&spki, unix_time());
                device.clone()
            })
        });
        if gets_in(&kept.await.map_err(failed)?) {
            return admit(cloud, offered.to_vec(), false);
        }
    }
    let fingerprint = Fingerprint::of_spki(offered);
    let advice = format!(
        "if this is the device's fingerprint, `spark cloud accept {id} {} --data DIR` lets it in",
        fingerprint.short()
    );
    Err(match device.current_key() {
        Some(_) => Refusal::of_row(
            "device-key-differs",
            format!("key changed: the device offers {}, not the recorded key", fingerprint.short()),
            advice,
        ),
        None => Refusal::of_row(
            "device-unknown",
            format!("unknown device, its key is {}", fingerprint.short()),
            advice,
        ),
    })
}

fn admit(cloud: &Cloud, spki: Vec<u8>, first_use: bool) -> Result<(DeviceKey, Admitted), Refusal> {
    let key = DeviceKey::new(&spki, cloud.options.back_end).map_err(|error| {
        let advice = "enrol the device again".to_owned();
        Refusal::of_row("record-unusable", format!("the recorded key: {error}"), advice)
    })?;
    Ok((key, Admitted { spki, first_use }))
}
