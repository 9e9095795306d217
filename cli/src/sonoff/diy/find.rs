//! `spark sonoff diy find`: devices by what they announce in the network.

use crate::exit::{Code, Failure};
use crate::ui::{self, Ui};
use core::net::{IpAddr, SocketAddr, SocketAddrV6};
use core::time::Duration;
use mdns_sd::{IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use serde_json::{Value, json};
use spark_ota::sonoff::DeviceId;
use spark_ota::sonoff::diy::{DiyAnnouncement, SERVICE, id_in_name};
use std::collections::BTreeMap;
use std::time::Instant;

/// More than any network has; others may announce what they want.
const MOST: usize = 1024;

/// Look for devices with the vendor's firmware in this network.
///
/// They are asked by multicast DNS, and nothing else is sent. Devices outside of DIY mode are listed too; they take no image.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How long to look.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Only in the network in which this computer has this address.
    #[arg(long, value_name = "ADDRESS")]
    interface: Option<IpAddr>,
    /// Print one JSON object a line for each device.
    #[arg(long)]
    json: bool,
}

/// A device that was found.
#[derive(Debug)]
struct Found {
    id: Option<DeviceId>,
    address: SocketAddr,
    announcement: DiyAnnouncement,
}

impl Found {
    /// `None` without an address.
    fn new(service: &ResolvedService) -> Option<Self> {
        let properties = service.txt_properties.iter();
        let pairs = properties.filter_map(|property| Some((property.key(), property.val()?)));
        let announcement = DiyAnnouncement::from_pairs(pairs);
        let names = [&service.fullname, &service.host];
        let id = announcement.device_id.or_else(|| names.into_iter().find_map(|name| id_in_name(name)));
        let addresses = service.addresses.iter().map(|address| at(address, service.port));
        // IPv4 first: devices have nothing else.
        Some(Self { id, address: addresses.min()?, announcement })
    }

    fn mode(&self) -> &'static str {
        match self.announcement.is_diy() {
            Some(true) => "diy",
            Some(false) => "lan",
            None => "unknown",
        }
    }

    fn json(&self) -> Value {
        json!({
            "device_id": self.id.map(|id| id.to_string()),
            "address": self.address.to_string(),
            "type": self.announcement.kind.map(|kind| kind.to_string()),
            "mode": self.mode(),
            "ota_unlock": self.announcement.ota_unlock(),
        })
    }

    fn line(&self) -> String {
        let id = self.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let kind = self.announcement.kind.map_or_else(|| "-".to_owned(), |kind| kind.to_string());
        let state = match (self.announcement.is_diy(), self.announcement.ota_unlock()) {
            (Some(true), Some(true)) => "DIY mode, updates unlocked".to_owned(),
            (Some(true), Some(false)) => "DIY mode, updates locked: run `spark sonoff diy unlock`".to_owned(),
            (Some(false), _) => "LAN mode, encrypted: put it into DIY mode".to_owned(),
            (mode, _) => {
                let mode = if mode.is_some() { "DIY mode" } else { "mode not told" };
                format!("{mode}; `spark sonoff diy info {}` tells whether updates are unlocked", self.address)
            }
        };
        format!("{id:10}  {:21}  {kind:12}  {state}", self.address.to_string())
    }
}

fn at(address: &ScopedIp, port: u16) -> SocketAddr {
    match address {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index).into()
        }
        address => SocketAddr::new(address.to_ip_addr(), port),
    }
}

/// Runs the subcommand.
///
/// # Errors
/// [`Failure`]; also if there is no device.
pub fn run(args: &Args) -> Result<(), Failure> {
    if let Some(interface) = args.interface {
        own(interface)?;
    }
    let network = |error| {
        Failure::new(
            Code::Io,
            format_args!("cannot ask by multicast DNS: {error}"),
            "let UDP port 5353 through the firewall, and look whether this computer is in a network",
        )
    };
    Ui::new(args.json).line(&format!("looking for {} s", args.timeout));
    let found = browse(args).map_err(network)?;
    for device in found.values() {
        if args.json {
            ui::print(device.json())?;
        } else {
            ui::print(device.line())?;
        }
    }
    if !found.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Unavailable,
        format_args!("no device has answered in {} s", args.timeout),
        "look whether it has power, is in this network (also not in one for guests) and in DIY mode (the jumper of 3.3, the pairing \
         page of 3.5 and later), and whether multicast, UDP port 5353, passes the firewall and the access point; or give its \
         address to `spark sonoff diy info`",
    ))
}

fn own(address: IpAddr) -> Result<(), Failure> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses: Vec<_> = all.iter().map(if_addrs::Interface::ip).collect();
    if addresses.contains(&address) {
        return Ok(());
    }
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let (what, next) = (
        format!("this computer does not have the address {address}"),
        format!("give one of {}", addresses.join(", ")),
    );
    Err(Failure::new(Code::Usage, what, next))
}

/// Devices by their names.
fn browse(args: &Args) -> Result<BTreeMap<String, Found>, mdns_sd::Error> {
    let end = Instant::now() + Duration::from_secs(args.timeout);
    let daemon = ServiceDaemon::new()?;
    if let Some(interface) = args.interface {
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(interface)?;
    }
    let events = daemon.browse(SERVICE)?;
    let mut found = BTreeMap::new();
    while let Ok(event) = events.recv_deadline(end) {
        match event {
            ServiceEvent::ServiceResolved(service)
                if found.len() < MOST || found.contains_key(&service.fullname) =>
            {
                let device = Found::new(&service);
                found.extend(device.map(|device| (service.fullname, device)));
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                found.remove(&name);
            }
            _ => {}
        }
    }
    // Its thread ends with the program at the latest.
    let _ = daemon.shutdown();
    Ok(found)
}
