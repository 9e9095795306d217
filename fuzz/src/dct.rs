//! `spark-dct`: application section, server address, flash container.

use crate::input::Input;
use spark_dct::flash_module::FlashModule;
use spark_dct::ip_config::IpConfig;
use spark_dct::server_address::{expand_id, raw_value};
use spark_dct::wiced::{FlashOp, Generation, Initialise, Sector, SectorId, Sectors, Write, factory_sector};
use spark_dct::{App, AppMut, Field, Host, ServerAddress};

/// An erased image with patches (offset, length, bytes): every getter answers, and writing back what was read changes
/// nothing.
pub fn app(data: &[u8]) {
    let mut input = Input::new(data);
    let len = [4258, 4260, 8391, 16384][usize::from(input.byte() % 4)];
    let mut image = vec![0xFF; len];
    while !input.is_empty() {
        let (at, patch) = (usize::from(input.word()) % len, input.block());
        let patch = &patch[..patch.len().min(len - at)];
        image[at..][..patch.len()].copy_from_slice(patch);
    }
    let app = App::new(&image).expect("an accepted length");
    let _ = (app.server_address(), app.alt_server_address(), app.claimed(), app.claim_code());
    let _ = (app.ssid_prefix(), app.device_code(), app.country_code(), app.product_store());
    let _ = (app.device_id(), app.ota_update_flag(), app.feature_flags(), app.device_private_key());
    let flags = app.system_flags();
    let _ = (flags.flash_update(), flags.enabled_features(), flags.bootloader_version());
    for module in app.flash_modules() {
        assert_eq!(FlashModule::decode(&module.encode()), module);
    }
    let ip = app.ip_config();
    assert_eq!(IpConfig::decode(&ip.encode()), ip);

    let mut copy = image.clone();
    let mut edit = AppMut::new(&mut copy).expect("the same length");
    let mut buffer = [0; 16384];
    for field in Field::ALL {
        let value = app.read_into(*field, &mut buffer).expect("longer than any field");
        let fits = field.end() <= len;
        assert_eq!(edit.set(*field, value).is_ok(), fits, "{}", field.name());
    }
    assert!(copy == image, "writing the same values changed the image");

    let mut edit = AppMut::new(&mut copy).expect("the same length");
    if let Ok(Some(address)) = app.server_address() {
        edit.set_server_address(&address).expect("every image has the field");
        assert_eq!(edit.view().server_address(), Ok(Some(address)));
    }
    edit.set_claimed(true).expect("every image has the field");
    assert!(edit.view().claimed());
    assert_eq!(edit.view().claim_code(), app.claim_code());
}

/// What is read can be written and read again, and the firmware's limits hold.
pub fn server_address(data: &[u8]) {
    let mut input = Input::new(data);
    let block = input.array::<128>();
    let _ = raw_value(&block);
    if let Ok(Some(address)) = ServerAddress::parse(&block) {
        let mut again = [0; 128];
        address.encode_into(&mut again);
        assert_eq!(ServerAddress::parse(&again), Ok(Some(address)));
        if let Host::Domain(domain) = address.host() {
            assert!((1..64).contains(&domain.len()));
            let mut out = [0; 600];
            let expanded = expand_id(domain, &[0xA5; 12], &mut out).expect("63 bytes hold 21 times $id");
            assert!(!expanded.contains("$id"));
        }
    }
    if let Ok(domain) = core::str::from_utf8(input.rest())
        && let Ok(address) = ServerAddress::domain(domain, Some(1))
    {
        let mut block = [0; 128];
        address.encode_into(&mut block);
        assert_eq!(ServerAddress::parse(&block), Ok(Some(address)));
    }
}

struct Flash(Box<[Sector; 2]>);

impl Flash {
    fn sectors(&self) -> Sectors<'_> {
        Sectors::new(&self.0[0], &self.0[1])
    }

    /// As NOR flash does it; panics outside of a sector.
    fn apply(&mut self, op: FlashOp<'_>) {
        match op {
            FlashOp::Erase { sector } => self.0[sector.index()].fill(0xFF),
            FlashOp::Program { sector, offset, data } => {
                for (cell, byte) in self.0[sector.index()][offset..][..data.len()].iter_mut().zip(data) {
                    *cell &= byte;
                }
            }
            _ => panic!("an operation that this body does not know"),
        }
    }
}

/// Damaged sectors, writes and power cuts: operations stay within the sectors and end, and a complete write to an
/// undamaged container leaves the data where it belongs.
pub fn wiced(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let generation = [Generation::V0_4_0, Generation::V0_4_4, Generation::V0_7_0][usize::from(choice % 3)];
    let mut flash = Flash(Box::new([[0xFF; 16384]; 2]));
    if choice & 4 == 0 {
        factory_sector(&[0xFF; 4258], &mut flash.0[usize::from(choice >> 3) % 2]).expect("it fits");
    }
    let mut damaged = choice & 4 != 0;
    while !input.is_empty() {
        let kind = input.byte();
        let (at, bytes) = (usize::from(input.word()), input.block());
        if kind & 1 == 0 {
            damaged = true;
            // The interesting bytes: header and version record.
            let at = [at % 12, 16368 + at % 16, at % 16384][usize::from(kind >> 2) % 3];
            let sector = &mut flash.0[usize::from(kind >> 1) % 2];
            sector.iter_mut().skip(at).zip(bytes).for_each(|(cell, byte)| *cell = *byte);
            continue;
        }
        for id in [SectorId::Dct1, SectorId::Dct2] {
            let _ = flash.sectors().state(id);
        }
        let before = Flash(flash.0.clone());
        let Ok(mut write) = Write::new(before.sectors(), generation, at % 9000, bytes) else {
            if flash.sectors().current(generation).is_none() {
                let mut initialise = Initialise::new(generation);
                while let Some(op) = initialise.next_op() {
                    flash.apply(op);
                }
                assert!(flash.sectors().current(generation).is_some());
            }
            continue;
        };
        let target = write.target();
        let limit = if kind & 0x80 == 0 { 1000 } else { usize::from(kind >> 1) % 64 };
        let mut steps = 0;
        let complete = loop {
            let Some(op) = write.next_op() else { break true };
            if steps == limit {
                break false;
            }
            flash.apply(op);
            steps += 1;
        };
        assert!(complete || limit < 1000, "a write has a few hundred operations");
        damaged |= !complete;
        if !damaged {
            assert_eq!(flash.sectors().current(generation), Some(target));
            let app = flash.sectors().app(generation).expect("a sector is current");
            assert!(app[at % 9000..].starts_with(bytes), "the data is not where it was written");
        }
    }
}
