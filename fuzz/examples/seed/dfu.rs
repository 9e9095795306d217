//! Seeds of spark-dfu.

use super::{block, json, list, put, root};
use core::time::Duration;
use spark_dfu::descriptor::Description;
use spark_dfu::device::{Device, Memory, Profile, Work};
use spark_dfu::host::{Action, Input};
use spark_dfu::request::Direction;
use spark_fuzz::dfu::{HOST_LAYOUT, host_job};
use std::error::Error;
use std::fs;

pub(crate) fn dfu() -> Result<(), Box<dyn Error>> {
    for (i, case) in list(&json("dfu/tests/vectors/memlayout_cases.json")?["cases"]).iter().enumerate() {
        let text = case["string"].as_str().unwrap_or_default();
        put("dfu_layout", &format!("case_{i:02}"), text.as_bytes())?;
        let units: Vec<u8> = text.encode_utf16().take(120).flat_map(u16::to_le_bytes).collect();
        if i % 6 == 0 {
            put(
                "dfu_descriptors",
                &format!("string_{i:02}"),
                &[&[units.len() as u8 + 2, 3], &units[..]].concat(),
            )?;
        }
    }
    let description = Description::photon("53ff6d065072534212345667");
    let mut out = [0; 256];
    put("dfu_descriptors", "configuration", description.configuration_descriptor(&mut out)?)?;
    put("dfu_descriptors", "functional", &description.functional.to_bytes())?;
    put("dfu_descriptors", "status", &[0, 50, 0, 0, 4, 0])?;
    put("dfu_descriptors", "setup", &[0x21, 1, 2, 0, 0, 0, 64, 0])?;

    // Operations of `dfu::device`: erase, set address, write, read back, leave; by each profile.
    let (status, done, wait) = ([4].as_slice(), [9].as_slice(), [255].as_slice());
    let command = |code: u8, address: u32| [&[2, code], &address.to_le_bytes()[..]].concat();
    for profile in 0..3 {
        let write = [&[1, 0, 2], &block(&[0x5A; 64])[..]].concat();
        let read = [3, 0, 2, 0, 64];
        let (erase, set) = (command(0x41, 0x1000), command(0x21, 0x1000));
        let start = [profile];
        let job: Vec<&[u8]> = vec![
            &start,
            status,
            &erase,
            status,
            done,
            status,
            &set,
            status,
            done,
            status,
            &write,
            status,
            done,
            wait,
            status,
            &[6],
            &set,
            status,
            status,
            &[6],
            &read,
            &[6],
            &set,
            status,
            status,
            &[1, 0, 0, 0],
            status,
            wait,
            wait,
            done,
            status,
        ];
        put("dfu_device", &format!("write_and_leave_{profile}"), &job.concat())?;
        let errors: Vec<&[u8]> = vec![
            &start,
            &write,
            status,
            &[10, 4],
            status,
            &[5],
            &[11],
            &[8, 1],
            &[7],
            &[12, 3, 4, 0, 255],
            &read,
        ];
        put("dfu_device", &format!("errors_{profile}"), &errors.concat())?;
    }
    // Lower four bits: the job; upper four: how a download writes.
    for job in (0..12_u8).chain([0x11, 0x21, 0x41, 0x81, 0xC1, 0xE1]) {
        put("dfu_host", &format!("job_{job}"), &answers(job)?)?;
        put("dfu_host", &format!("job_{job}_busy"), &[job, 0, 4, 4, 4])?;
        put("dfu_host", &format!("job_{job}_stall"), &[job, 0, 1, 4, 0x8A, 0, 3])?;
    }
    Ok(())
}

/// The files of the vectors, read in pieces of several sizes; the damaged ones also with the checksum mended.
pub(crate) fn dfu_files() -> Result<(), Box<dyn Error>> {
    for (target, folder) in [("dfu_suffix", "suffix"), ("dfu_dfuse_file", "dfuse")] {
        for entry in fs::read_dir(root().join("dfu/tests/vectors").join(folder))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let file = fs::read(&path)?;
            let first = (file.len() % 100) as u8 & 0xFE;
            let head = if folder == "suffix" { vec![first] } else { vec![first, 2 * (name.len() % 2) as u8] };
            put(target, &name, &[&head[..], &file].concat())?;
        }
    }
    let damaged = fs::read(root().join("dfu/tests/vectors/suffix/bad_payload.bin"))?;
    put("dfu_suffix", "mended", &[&[1], &damaged[..]].concat())?;
    for (name, at, value) in [("more_elements", 281, 2), ("larger_element", 289, 41), ("overlap", 289, 50)] {
        let mut file = fs::read(root().join("dfu/tests/vectors/dfuse/one_element.dfu"))?;
        file[at] = value;
        put("dfu_dfuse_file", name, &[&[7, 3], &file[..]].concat())?;
    }
    Ok(())
}

struct Ram;

impl Memory for Ram {
    fn read(&mut self, _: u8, _: u32, out: &mut [u8]) -> usize {
        out.fill(0x33);
        out.len()
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::from_millis(1)
    }
}

/// What our device machine answers to one job of `dfu::host`.
fn answers(job: u8) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut description = Description::photon("1");
    description.alternates = &[HOST_LAYOUT];
    description.functional.transfer_size = 32;
    let mut device = Device::new(description, Profile::STRICT, [0; 32])?;
    let (mut now, mut buffer, mut data) = (Duration::ZERO, [0; 200], vec![job]);
    let mut machine = host_job(job, &mut buffer);
    loop {
        let mut reply = [0; 64];
        let (setup, out) = match machine.action() {
            Action::Out { setup, data } => (setup, data),
            Action::In { setup } => (setup, &[][..]),
            Action::Wait { until } => {
                now = until;
                machine.handle(now, Input::TimeReached)?;
                continue;
            }
            Action::ResetBus => {
                data.push(0);
                machine.handle(now, Input::BusReset)?;
                continue;
            }
            Action::FindAgain { .. } => {
                data.push(0);
                machine.handle(now, Input::Found)?;
                continue;
            }
            Action::Finished => return Ok(data),
        };
        let is_in = setup.direction() == Direction::In;
        let input = match device.control(now, &mut Ram, &setup.to_bytes(), out, &mut reply) {
            Ok(len) if is_in => {
                data.push(4 + u8::try_from(len)?);
                data.extend(&reply[..len]);
                Input::InDone(&reply[..len])
            }
            Ok(_) => {
                data.push(0);
                Input::OutDone
            }
            Err(_) => {
                data.push(1);
                Input::Stalled
            }
        };
        while device.work(now).is_some() {
            device.work_done(now, Ok(()))?;
        }
        // A DfuSe device refuses the plain jobs; that is worth a file, too.
        if machine.handle(now, input).is_err() {
            return Ok(data);
        }
    }
}
