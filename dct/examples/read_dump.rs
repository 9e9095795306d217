//! Builds the flash of a Photon, claims it over a simulated write, and prints what the result holds.
//!
//! `cargo run -p spark-dct --example read_dump`

use spark_dct::wiced::{FlashOp, Generation, Sector, Sectors, Write, factory_sector};
use spark_dct::{App, AppMut, Field, Host, ServerAddress, ServerKeyRegion};

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut image = [0xFF; 8391];
    let key = [0x30; 294];
    let address = ServerAddress::domain("cloud.example.org", None)?;
    AppMut::new(&mut image)?.set_server_key_region(&ServerKeyRegion::new(&key, Some(address)))?;

    let mut flash: Vec<Sector> = vec![[0xFF; 16384]; 2];
    if let [dct1, _] = flash.as_mut_slice() {
        factory_sector(&image, dct1)?;
    }
    let before = flash.clone();
    let [dct1, dct2] = before.as_slice() else { return Err("two sectors".into()) };
    let generation = Generation::V0_7_0;
    let mut write = Write::new(Sectors::new(dct1, dct2), generation, Field::CLAIMED.offset(), b"1")?;
    let mut operations = 0;
    while let Some(op) = write.next_op() {
        operations += 1;
        match op {
            FlashOp::Erase { sector } => flash[sector.index()] = [0xFF; 16384],
            FlashOp::Program { sector, offset, data } => {
                flash[sector.index()]
                    .iter_mut()
                    .skip(offset)
                    .zip(data)
                    .for_each(|(cell, byte)| *cell &= byte);
            }
            other => return Err(format!("unknown operation {other:?}").into()),
        }
    }

    let [dct1, dct2] = flash.as_slice() else { return Err("two sectors".into()) };
    let sectors = Sectors::new(dct1, dct2);
    let app = App::new(sectors.app(generation).ok_or("no current sector")?)?;
    println!("flash operations  {operations}");
    println!("current sector    {:?}", sectors.current(generation));
    println!("claimed           {}", app.claimed());
    println!("device key        {}", if app.device_private_key().is_some() { "present" } else { "erased" });
    match app.server_address()?.map(|address| (address.host(), address.port_or(5683))) {
        Some((Host::Domain(domain), port)) => println!("server            {domain}:{port}"),
        Some((Host::Ipv4(ip), port)) => println!("server            {ip}:{port}"),
        None => println!("server            none"),
    }
    for field in Field::ALL.iter().filter(|field| !app.is_erased(**field)) {
        println!("{:5} {:5}  {} (since {})", field.offset(), field.len(), field.name(), field.since());
    }
    Ok(())
}
