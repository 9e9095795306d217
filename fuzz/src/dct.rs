//! `spark-dct`: application section, values by name, server address, flash containers, recovery.

use crate::input::Input;
use spark_dct::core_flash::{CoreFlags, CoreFlash};
use spark_dct::flash::FlashStep;
use spark_dct::flash_module::FlashModule;
use spark_dct::ip_config::IpConfig;
use spark_dct::power_config::PowerConfig;
use spark_dct::recovery::{Confidence, Dump, Judgement, Options, Plan, Source, Target, diff};
use spark_dct::segment::KeyAlgorithm;
use spark_dct::server_address::{FirmwareParser, deviations, expand_id, raw_value};
use spark_dct::server_key_region::address_block_of_file;
use spark_dct::wiced::{
    AccessPoint, FlashOp, Generation, Initialise, Sector, SectorId, SectorMut, SectorView, Sectors, SoftAp,
    StreamWrite, Write, factory_sector,
};
use spark_dct::{App, AppMut, Content, Entry, Field, Host, ServerAddress, ServerKeyRegion, dcd};

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
    settings(&app);
    region(app.bytes(Field::SERVER_PUBLIC_KEY));
    for algorithm in [KeyAlgorithm::Rsa, KeyAlgorithm::Ec] {
        assert!(app.server_key_region(algorithm).is_ok(), "every image holds both");
    }
    let core = image.first_chunk().expect("longer than ten bytes");
    assert_eq!(CoreFlags::decode(core).encode(), *core);

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
    edit.set_wlan_sleep_clock(app.is_wlan_sleep_clock_on()).expect("every image has the field");
    assert_eq!(edit.view().is_wlan_sleep_clock_on(), app.is_wlan_sleep_clock_on());
    edit.set_cloud_transport(app.cloud_transport()).expect("every image has the field");
    assert_eq!(edit.view().cloud_transport(), app.cloud_transport());
}

/// Settings and mirrors stay within their fields, and what is decoded is encoded again.
fn settings(app: &App<'_>) {
    let is_within = |text: Option<&[u8]>, room: usize| assert!(text.is_none_or(|text| text.len() <= room));
    if let Some(eap) = app.eap_config() {
        is_within(eap.inner_identity(), 64);
        is_within(eap.outer_identity(), 64);
        is_within(eap.security_key(), 64);
        is_within(eap.ca_certificate(), 4096);
        assert_eq!(eap.method(), app.bytes(Field::EAP_CONFIG)[0]);
    }
    if let Some(power) = app.power_config() {
        assert_eq!(power.encode()[..], *app.bytes(Field::POWER_CONFIG));
        assert_eq!(PowerConfig::decode(&power.encode()), power);
    }
    let button = app.mode_button_mirror();
    assert_eq!(button.as_bytes()[..], *app.bytes(Field::MODE_BUTTON_MIRROR));
    assert!(!button.is_active() || button.as_bytes()[0] == 0xAA);
    for (led, bytes) in app.led_mirrors().iter().zip(app.bytes(Field::LED_MIRROR).chunks(24)) {
        assert_eq!(led.as_bytes()[..], *bytes);
        assert!(led.is_set() || !led.is_active());
    }
    for entry in Entry::all() {
        let value = app.value(entry);
        assert!(!app.is_unset(entry) || !value.is_malformed(), "{entry}: erased is no damage");
    }
}

/// Key and address of a region, written again, are read again; a lost one has neither.
fn region(bytes: &[u8]) {
    for algorithm in [KeyAlgorithm::Rsa, KeyAlgorithm::Ec] {
        let len = algorithm.server_region_len();
        let view = ServerKeyRegion::parse(algorithm, bytes).expect("as long as the field");
        assert!(!view.is_lost() || view.key().is_none() && view.address() == Ok(None));
        let mut buffer = [0; 512];
        let out = &mut buffer[..len];
        if let (Some(key), Ok(address)) = (view.key(), view.address()) {
            ServerKeyRegion::new(key, address).encode_into(out).expect("length of a region");
            let again = ServerKeyRegion::parse(algorithm, out).expect("length of a region");
            assert_eq!((again.key(), again.address()), (Some(key), Ok(address)));
        }
        if let Some(key) = view.key() {
            let found = ServerKeyRegion::with_address_block(key, view.address_block());
            found.encode_into(out).expect("length of a region");
            assert_eq!(ServerKeyRegion::parse(algorithm, out), Ok(view));
        }
        if let Some(block) = address_block_of_file(algorithm, bytes, algorithm.server_key_len()) {
            assert_eq!(&block, view.address_block());
        }
        assert!(ServerKeyRegion::parse(algorithm, &bytes[..len - 1]).is_err());
    }
}

/// What is read can be written and read again, and the firmware's limits hold.
pub fn server_address(data: &[u8]) {
    let mut input = Input::new(data);
    let block = input.array::<128>();
    let _ = raw_value(&block);
    let strange = deviations(&block).filter(|deviation| !deviation.is_harmless()).count();
    for parser in [FirmwareParser::V0_4_0, FirmwareParser::V0_4_9] {
        let found = parser.parse(&block);
        assert!(found.bytes_past_struct <= 1 && found.name().len() <= 128);
        if let Ok(Some(address)) = ServerAddress::parse(&block)
            && let Host::Domain(domain) = address.host()
        {
            assert_eq!(found.name(), domain.as_bytes(), "what both sides understand is the same");
            assert_eq!(strange, 0, "an address that works is not called broken");
        }
    }
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

/// An entry, its content, and a text to set: what is shown can be set and changes nothing but padding, and a text is taken
/// whole or not at all.
pub fn values(data: &[u8]) {
    let mut input = Input::new(data);
    let index = usize::from(input.byte()) % Entry::all().count();
    let entry = Entry::all().nth(index).expect("below the count");
    let mut image = vec![0x5A; 8391];
    let content = input.block();
    image[entry.range()].fill(input.byte());
    let start = &mut image[entry.offset()..];
    let length = content.len().min(entry.len());
    start[..length].copy_from_slice(&content[..length]);

    let before = image.clone();
    let shown = App::new(&before).expect("an accepted length").value(entry);
    let mut edit = AppMut::new(&mut image).expect("the same length");
    edit.set_text(entry, &shown.to_string()).expect("what is shown can be set");
    assert!(App::new(&image).expect("the same length").value(entry) == shown, "{entry}");
    assert!(!matches!(shown.content(), Content::Absent));
    let outside = |image: &[u8]| [&image[..entry.offset()], &image[entry.end()..]].concat();
    assert!(outside(&image) == outside(&before));

    let Ok(text) = core::str::from_utf8(input.rest()) else { return };
    let before = image.clone();
    let mut edit = AppMut::new(&mut image).expect("the same length");
    match edit.set_text(entry, text) {
        Err(error) => {
            assert!(image == before, "a refused text changes nothing");
            assert!(error.to_string().starts_with(&entry.to_string()));
        }
        Ok(()) => {
            assert!(outside(&image) == outside(&before));
            let (once, before) = (image.clone(), App::new(&before).expect("the same length"));
            let value = App::new(&once).expect("the same length").value(entry);
            let mut edit = AppMut::new(&mut image).expect("the same length");
            edit.set_text(entry, &value.to_string()).expect("what is shown can be set");
            assert!(App::new(&image).expect("the same length").value(entry) == value, "{entry} = {text}");
            for difference in diff(before, App::new(&once).expect("the same length")) {
                assert_eq!(difference.entry.field(), entry.field());
            }
        }
    }
}

/// A sector with patches: every section answers, and what is decoded is encoded again.
pub fn sections(data: &[u8]) {
    let mut input = Input::new(data);
    let mut sector = [0xFF; 16384];
    while !input.is_empty() {
        let (at, patch) = (usize::from(input.word()) % 16384, input.block());
        sector.iter_mut().skip(at).zip(patch).for_each(|(cell, byte)| *cell = *byte);
    }
    let view = SectorView::new(&sector);
    let (wifi, mfg, security) = (view.wifi_config(), view.mfg_info(), view.security());
    for slot in 0..6 {
        if let Some(point) = wifi.access_point(slot) {
            assert_eq!(AccessPoint::decode(&point.encode()), point);
            let _ = (point.key(), point.ssid.as_bytes(), point.is_used(), point.security.to_string());
        }
    }
    assert_eq!(SoftAp::decode(&wifi.soft_ap().encode()), wifi.soft_ap());
    let _ = (wifi.config_ap(), wifi.country(), wifi.mac_address(), wifi.is_configured());
    let _ = (security.private_key(), security.certificate(), security.cooee_key());
    let _ = (view.network_config().hostname(), spark_dct::wiced::MfgText::ALL.map(|text| mfg.text(text)));
    assert!(App::new(view.app()).is_ok());
    let core = CoreFlash::new(&sector).expect("long enough");
    let _ = (core.server_address(), core.device_private_key());
    assert_eq!(core.server_key_region().address(), core.server_address());
    region(&sector[0x1000..0x2000]);

    let mut copy = sector;
    let mut edit = SectorMut::new(&mut copy);
    edit.wifi_config().set_soft_ap(&wifi.soft_ap());
    if let Some(point) = wifi.access_point(0) {
        edit.wifi_config().set_access_point(0, &point).expect("there is a slot 0");
    }
    assert!(copy == sector, "writing the same values changed the sector");
}

struct Flash(Box<[Sector; 2]>);

impl Flash {
    fn sectors(&self) -> Sectors<'_> {
        Sectors::new(&self.0[0], &self.0[1])
    }

    fn dcd(&self) -> dcd::Sectors<'_> {
        dcd::Sectors::new(&self.0[0], &self.0[1])
    }

    /// The sectors after a write that reads them in pieces and changes them in place.
    fn streamed(&self, mut write: StreamWrite<'_>) -> Box<[Sector; 2]> {
        let mut after = Flash(self.0.clone());
        while let Some(step) = write.next_step().expect("the other machine found a sector") {
            match step {
                FlashStep::Read { sector, offset, len } => {
                    write.handle_read(&after.0[sector.index()][offset..offset + len]);
                }
                FlashStep::Erase { sector } => after.apply(FlashOp::Erase { sector }),
                FlashStep::Program { sector, offset, data } => {
                    after.apply(FlashOp::Program { sector, offset, data });
                }
                FlashStep::Copy { from, from_offset, to, to_offset, len } => {
                    let data = after.0[from.index()][from_offset..from_offset + len].to_vec();
                    after.apply(FlashOp::Program { sector: to, offset: to_offset, data: &data });
                }
                _ => panic!("a step that this body does not know"),
            }
        }
        after.0
    }

    fn run_dcd(&mut self, mut write: dcd::Write<'_>, limit: usize) -> bool {
        for _ in 0..limit {
            match write.next_op() {
                Some(op) => self.apply(op),
                None => return true,
            }
        }
        assert!(limit < 100, "a write has some ten operations");
        write.next_op().is_none()
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
        if complete {
            let stream = StreamWrite::new(generation, at % 9000, bytes).expect("the other machine took it");
            assert!(
                before.streamed(stream) == flash.0,
                "the machine that reads in pieces does something else"
            );
        }
        damaged |= !complete;
        if !damaged {
            assert_eq!(flash.sectors().current(generation), Some(target));
            let app = flash.sectors().app(generation).expect("a sector is current");
            assert!(app[at % 9000..].starts_with(bytes), "the data is not where it was written");
        }
    }
}

/// Writes of both generations to the Electron's container, damage, and power cuts: an undamaged one has the data where it
/// was written, whichever generation looks.
pub fn dcd(data: &[u8]) {
    let mut input = Input::new(data);
    let mut flash = Flash(Box::new([[0xFF; 16384]; 2]));
    let choice = input.byte();
    let generation = |choice: u8| if choice & 1 == 0 { dcd::Generation::V1 } else { dcd::Generation::V2 };
    if choice & 2 != 0 {
        factory_sector(&[0xFF; 4258], &mut flash.0[usize::from(choice >> 2) % 2]).expect("it fits");
        let before = Flash(flash.0.clone());
        let migration = dcd::Write::migrate(before.dcd(), generation(choice)).expect("a table to migrate");
        flash.run_dcd(migration, 100);
    } else {
        let before = Flash(flash.0.clone());
        flash.run_dcd(dcd::Write::initialise(before.dcd(), generation(choice)), 100);
    }
    assert!(flash.dcd().current(generation(choice)).is_some());
    let mut damaged = false;
    while !input.is_empty() {
        let kind = input.byte();
        let (at, bytes) = (usize::from(input.word()), input.block());
        if kind & 2 != 0 {
            damaged = true;
            let at = [at % 8, 16352 + at % 32, at % 16384][usize::from(kind >> 2) % 3];
            let sector = &mut flash.0[usize::from(kind >> 4) % 2];
            sector.iter_mut().skip(at).zip(bytes).for_each(|(cell, byte)| *cell = *byte);
            continue;
        }
        let before = Flash(flash.0.clone());
        let Ok(write) = dcd::Write::new(before.dcd(), generation(kind), at % 17000, bytes) else { continue };
        let target = write.target();
        let limit = if kind & 0x80 == 0 { 100 } else { usize::from(kind >> 2) % 10 };
        damaged |= !flash.run_dcd(write, limit);
        if !damaged {
            for reader in [dcd::Generation::V1, dcd::Generation::V2] {
                assert_eq!(flash.dcd().current(reader), Some(target));
                let app = flash.dcd().app(reader).expect("a sector is current");
                let written = bytes.len().min(app.len().saturating_sub(at % 17000));
                assert!(written == 0 || app[at % 17000..].starts_with(&bytes[..written]));
            }
        }
    }
}

/// Any two sectors: a plan is one, its sectors are selected, nothing is mixed unasked, and what it calls judged was.
pub fn recovery(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let target = Target::ALL[usize::from(choice) % 5];
    let mix = choice & 0x80 != 0;
    let mut flash = Flash(Box::new([[0xFF; 16384]; 2]));
    factory_sector(&[0xFF; 4258], &mut flash.0[0]).expect("it fits");
    if choice & 0x40 != 0 {
        let before = Flash(flash.0.clone());
        let migration = dcd::Write::migrate(before.dcd(), dcd::Generation::V2).expect("a table to migrate");
        flash.run_dcd(migration, 100);
    }
    let verdicts = input.byte();
    let given = input.block();
    while !input.is_empty() {
        let kind = input.byte();
        let (at, bytes) = (usize::from(input.word()) % 16384, input.block());
        match kind & 3 {
            0 | 1 => {
                let sector = &mut flash.0[usize::from(kind & 1)];
                sector.iter_mut().skip(at).zip(bytes).for_each(|(cell, byte)| *cell = *byte);
            }
            2 => {
                let before = Flash(flash.0.clone());
                let generation =
                    [Generation::V0_4_0, Generation::V0_4_4, Generation::V0_7_0][usize::from(kind >> 2) % 3];
                if let Ok(mut write) = Write::new(before.sectors(), generation, at % 9000, bytes) {
                    for _ in 0..usize::from(kind >> 4) * 20 {
                        let Some(op) = write.next_op() else { break };
                        flash.apply(op);
                    }
                }
            }
            _ => flash.0.swap(0, 1),
        }
    }
    let dump = Dump::new(&flash.0[0], &flash.0[1]);
    let judge = |field: Field, bytes: &[u8]| {
        let sum = bytes.iter().fold(verdicts, |sum, byte| sum.wrapping_mul(31) ^ byte);
        match (field, sum % 3) {
            (Field::DEVICE_PRIVATE_KEY, 0) => Judgement::Valid,
            (Field::DEVICE_PRIVATE_KEY, 1) => Judgement::Invalid,
            _ => Judgement::Unknown,
        }
    };
    let written = [(Field::DEVICE_PRIVATE_KEY, given)];
    let Ok(plan) = Plan::new(dump, target, Options::default().mix(mix).written(&written), judge) else {
        return;
    };
    assert!(mix || !plan.is_mixed());
    for decision in plan.decisions() {
        assert!(
            decision.confidence != Confidence::Judged
                || judge(decision.field, plan.bytes(decision)) == Judgement::Valid
        );
        assert!(mix || decision.source == Source::Sector(plan.base().id));
    }
    let mut image = [0; 8391];
    let image = plan.build_app(&mut image).expect("long enough");
    let mut repaired = Flash(Box::new([[0; 16384]; 2]));
    plan.build_sectors(&mut repaired.0).expect("given values are short");
    let selection = Dump::new(&repaired.0[0], &repaired.0[1]).select(target);
    assert_eq!(selection.sector, Some(SectorId::Dct1));
    let again = Plan::new(Dump::new(&repaired.0[0], &repaired.0[1]), target, Options::default(), judge);
    let mut copy = [0; 8391];
    let copy = again.expect("there is a table now").build_app(&mut copy).expect("long enough").to_vec();
    assert!(copy == image, "recovering what was recovered changes nothing");
}
