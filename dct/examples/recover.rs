//! Cuts the power of a Photon while old firmware writes a key, and repairs what is left.
//!
//! `cargo run -p spark-dct --example recover`

use spark_dct::flash::{FlashOp, Sector, SectorId};
use spark_dct::recovery::{Dump, Judgement, Options, Plan, Target};
use spark_dct::wiced::{Generation, Sectors, Write, factory_sector};
use spark_dct::{AppMut, Field};

const OLD: [u8; 608] = [0b1010_1010; 608];
const NEW: [u8; 608] = [0b0110_0110; 608];

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut image = [0xFF; 4258];
    let mut edit = AppMut::new(&mut image)?;
    edit.set_device_private_key(&OLD)?;
    edit.set_claimed(true)?;
    let mut flash: [Sector; 2] = [[0xFF; 16384]; 2];
    factory_sector(&image, &mut flash[0])?;

    // v0.4.4 to v0.6.4 first program the new key over the old one; the power fails behind that
    let before = flash;
    let sectors = Sectors::new(&before[0], &before[1]);
    let mut write = Write::new(sectors, Generation::V0_4_4, Field::DEVICE_PRIVATE_KEY.offset(), &NEW)?;
    if let Some(FlashOp::Program { sector, offset, data }) = write.next_op() {
        flash[sector.index()].iter_mut().skip(offset).zip(data).for_each(|(cell, byte)| *cell &= byte);
    }

    let dump = Dump::new(&flash[0], &flash[1]);
    for id in [SectorId::Dct1, SectorId::Dct2] {
        println!("{id:?}: {}", dump.candidate(id).standing);
    }
    for target in Target::ALL {
        let selection = dump.select(target);
        println!("{target} reads {:?}: {}", selection.sector, selection.reason);
    }

    // a real judge computes with the key
    let judge = |field: Field, bytes: &[u8]| match field {
        Field::DEVICE_PRIVATE_KEY if bytes.starts_with(&OLD) || bytes.starts_with(&NEW) => Judgement::Valid,
        Field::DEVICE_PRIVATE_KEY => Judgement::Invalid,
        _ => Judgement::Unknown,
    };
    let written = [(Field::DEVICE_PRIVATE_KEY, &NEW[..])];
    let options = Options::default().mix(true).written(&written);
    let target = Target::Wiced(Generation::V0_7_0);
    let plan = Plan::new(dump, target, options, judge)?;
    for decision in plan.decisions().iter().filter(|decision| !decision.field.is_gap()) {
        println!("{decision}");
    }

    let mut repaired = [[0; 16384]; 2];
    plan.build_sectors(&mut repaired)?;
    let dump = Dump::new(&repaired[0], &repaired[1]);
    println!(
        "repaired: {}, read from {:?}",
        dump.candidate(SectorId::Dct1).standing,
        dump.select(target).sector
    );
    Ok(())
}
