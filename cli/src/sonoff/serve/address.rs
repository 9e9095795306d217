//! Where devices find this computer.

use super::notes::Notes;
use crate::exit::Failure;
use core::net::{IpAddr, Ipv4Addr};
use spark_ota::sonoff::device::final_stage;

/// The network of the intermediate image.
const FINAL_STAGE: [u8; 3] = [192, 168, 4];

/// Says which addresses devices can be given, and warns of those that they cannot reach.
pub(super) fn say(
    notes: &Notes,
    listen: IpAddr,
    told: Option<&str>,
    has_final: bool,
    [port, http_port]: [u16; 2],
) -> Result<(), Failure> {
    let found = own_addresses();
    // Somebody else passes on what comes, and devices are told where.
    let is_behind = listen.is_ipv6() && !listen.is_unspecified();
    let usable: Vec<_> = match listen {
        IpAddr::V4(address) if !address.is_unspecified() => vec![address],
        _ if is_behind => Vec::new(),
        _ => found.iter().map(|(address, _)| *address).filter(|address| !address.is_loopback()).collect(),
    };
    if !is_behind && usable.iter().all(Ipv4Addr::is_loopback) {
        notes.warning("this computer has no address that a device can reach, only itself can connect")?;
    }
    if let Some(told) = told {
        notes.line(format_args!("devices are told that this computer is {told}"));
        if let Ok(address) = told.parse::<Ipv4Addr>()
            && !found.iter().any(|(own, _)| *own == address)
        {
            notes.warning(format_args!(
                "{address} is no address of this computer: does something pass it on?"
            ))?;
        }
    } else {
        for address in &usable {
            let name = found.iter().find(|(own, _)| own == address).map_or("", |(_, name)| name.as_str());
            notes.line(format_args!("address of this computer: {address} {name}"));
        }
        if let Some(address) = usable.iter().find(|address| !address.is_loopback()) {
            notes.line(format_args!(
                "tell it to a device: spark sonoff provision --ssid NETWORK --server {address}:{port}"
            ));
        }
    }
    if has_final {
        if http_port != final_stage::PORT {
            notes.warning(format_args!(
                "the final stage asks at port {}, and images are at port {http_port}",
                final_stage::PORT
            ))?;
        }
        if usable.iter().any(|address| address.octets().starts_with(&FINAL_STAGE)) {
            notes.warning(
                "your network is 192.168.4.x, as that of the final stage: leave it before you join FinalStage",
            )?;
        }
    }
    Ok(())
}

fn own_addresses() -> Vec<(Ipv4Addr, String)> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let v4 = |interface: if_addrs::Interface| match interface.ip() {
        IpAddr::V4(address) => Some((address, format!("({})", interface.name))),
        IpAddr::V6(_) => None,
    };
    all.into_iter().filter_map(v4).collect()
}
