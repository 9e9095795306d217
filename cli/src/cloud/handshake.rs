//! Steps 1 to 3 of a connection: who is it, and does it get in. RSA work on the pool, the recorded key from the database.

use super::crypto::DeviceKey;
use super::folder::unix_time;
use super::plan::Plan;
use super::refusal::Refusal;
use super::store::{Device, KeyRecord};
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

/// Which of a device's keys it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    Current,
    /// The one that its owner has just written into it.
    Next,
}

/// What is known about a device that may connect.
pub(super) struct Known {
    pub(super) record: Record,
    pub(super) device: Device,
    pub(super) plan: Option<Plan>,
}

/// Steps 1 to 3. Reads no byte behind the identity: what follows belongs to the session.
pub(super) async fn handshake(
    cloud: &Arc<Cloud>,
    socket: &mut TcpStream,
    claimed: &mut Option<DeviceId>,
) -> Result<(Accepted, Known), Refusal> {
    let mut nonce = [0; 40];
    rand::rng().fill_bytes(&mut nonce);
    let mut waiting = AwaitIdentity::start(nonce, Duration::ZERO);
    write(cloud, socket, &nonce).await.map_err(|error| Refusal::io(&error))?;

    read_identity(socket, &mut waiting, cloud.options.limits.identity_timeout).await?;
    let Ok((waiting, job)) = waiting.complete() else {
        return Err(Failure { stage: Stage::ReceiveIdentity, cause: Cause::Closed }.into());
    };
    let worker = Arc::clone(cloud);
    let decrypted = cloud.workers.run(move || job.run(&worker.server_key, &mut rand::rng())).await?;
    let identified = waiting.resume(decrypted)?;
    *claimed = Some(identified.device_id());

    let (device_key, known) = authorise(cloud, &identified).await?;
    let mut session = Zeroizing::new([0; SessionKeys::LEN]);
    rand::rng().fill_bytes(session.as_mut_slice());
    cloud.log_session(&session);
    let (waiting, job) = identified.accept(SessionKeys::new(*session));
    let worker = Arc::clone(cloud);
    let sealed =
        cloud.workers.run(move || job.run(&device_key, &worker.server_key, &mut rand::rng())).await?;
    let accepted = waiting.resume(sealed)?;
    write(cloud, socket, &accepted.message).await.map_err(|error| Refusal::io(&error))?;
    Ok((accepted, known))
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

/// The recorded key decides; an offered one is only compared, or enrolled where the operator said so.
async fn authorise(cloud: &Cloud, identified: &Identified) -> Result<(DeviceKey, Known), Refusal> {
    let id = identified.device_id();
    let failed = |failure: crate::exit::Failure| Refusal::of_store(&failure);
    let device = cloud.store.device(id).map_err(failed)?.unwrap_or_default();
    let plan = cloud.store.plan(id).map_err(failed)?;
    let usable = |record: &KeyRecord| {
        DeviceKey::new(&record.spki(), cloud.options.back_end).map_err(|error| {
            Refusal::of_row(
                "record-unusable",
                format!("the recorded key: {error}"),
                "enrol the device again".to_owned(),
            )
        })
    };
    let Some(offered) = identified.offered_key() else {
        // It does not say which of two keys it holds; a wrong guess is made good when it connects again.
        let next = device.next_key().filter(|_| rand::rng().next_u32().is_multiple_of(2));
        let (key, record) = match (next, device.current_key()) {
            (Some(next), _) => (usable(next)?, Record::Next),
            (None, Some(current)) => (usable(current)?, Record::Current),
            (None, None) => {
                return Err(Refusal::of_row(
                    "device-unknown",
                    "unknown device that offers no key".to_owned(),
                    format!("give the cloud its public key: `spark keys send-ready --cloud DIR {id}`"),
                ));
            }
        };
        return Ok((key, Known { record, device, plan }));
    };
    let is_offered = |record: &&KeyRecord| record.spki() == offered[..];
    if let Some(next) = device.next_key().filter(is_offered) {
        return Ok((usable(next)?, Known { record: Record::Next, plan, device }));
    }
    if let Some(current) = device.current_key().filter(is_offered) {
        return Ok((usable(current)?, Known { record: Record::Current, plan, device }));
    }
    let key = DeviceKey::new(offered, cloud.options.back_end).map_err(|error| {
        let reason = format!("the device offers an unusable key: {error}");
        Refusal::of_row(
            "record-unusable",
            reason,
            "write a new key to the device: `spark keys doctor`".to_owned(),
        )
    })?;
    let (changed, spki) = (device.current_key().is_some(), offered.to_vec());
    let first_use = cloud.options.enrolment == Enrolment::FirstUse && !changed;
    let enrolled = cloud.store.change(move |transaction| {
        transaction.update_device(id, |device| {
            if first_use && device.enrol_first(&spki, unix_time()).is_ok() {
                device.claimed = true;
                return Some(device.clone());
            }
            device.offer(&spki, unix_time());
            None
        })
    });
    if let Some(device) = enrolled.await.map_err(failed)? {
        return Ok((key, Known { record: Record::Current, plan, device }));
    }
    let fingerprint = Fingerprint::of_spki(offered);
    let advice = format!(
        "if this is the device's fingerprint, `spark cloud accept {id} {} --data DIR` lets it in",
        fingerprint.short()
    );
    Err(match changed {
        true => Refusal::of_row(
            "device-key-differs",
            format!("key changed: the device offers {}, not the recorded key", fingerprint.short()),
            advice,
        ),
        false => Refusal::of_row(
            "device-unknown",
            format!("unknown device, its key is {}", fingerprint.short()),
            advice,
        ),
    })
}
