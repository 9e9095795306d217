//! `spark dfu`, and with it the feature `nusb` of `spark-dfu`, on a real Linux USB stack: usbcore, uhci-hcd and usbfs of
//! a Debian kernel in a virtual machine. QEMU's USB ports are sockets (usbredir) that lead to our device machines here.
//!
//! ```text
//! guest: spark, dfu-util ── usbfs ── usbcore ── uhci-hcd ──┐
//!        shell ── serial port                        QEMU ─┴─ usbredir ── Port ── Device, Runtime
//!                     └────────────── Guest::run ── scenarios ── events, memories ──┘
//! ```
//!
//! `run` packs the guest and starts this program. Time is real, but flash is twenty times as fast as it would be. What
//! UHCI cannot show is high speed; QEMU's limit of 4096 bytes for a control transfer is Linux's own.

mod guest;
mod port;
mod redir;
mod scenarios;

// The devices and their memories are those of the stand-in for libusb.
#[path = "../../libusb-standin/src/devices.rs"]
mod devices;
#[path = "../../libusb-standin/src/store.rs"]
mod store;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs, io};

use guest::Guest;
use port::Port;
use scenarios::{ALL, Bench};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["files", folder] => write_files(Path::new(folder)),
        ["test", work, kernel, initramfs, ref names @ ..] => {
            test(Path::new(work), Path::new(kernel), Path::new(initramfs), names)
        }
        _ => {
            eprintln!("usage: usb-guest files FOLDER | test FOLDER KERNEL INITRAMFS [SCENARIO...]");
            ExitCode::FAILURE
        }
    }
}

fn write_files(folder: &Path) -> ExitCode {
    for (name, content) in scenarios::files() {
        if let Err(error) = fs::write(folder.join(name), content) {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// An empty folder.
fn fresh(path: &Path) -> io::Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path)
}

fn test(work: &Path, kernel: &Path, initramfs: &Path, names: &[&str]) -> ExitCode {
    let work = &work.join("sockets");
    fresh(work).expect("the folder can be made");
    let ports = ["usb0", "usb1"].map(|name| {
        let memories = work.join(format!("{name}.memories"));
        fs::create_dir(&memories).expect("the folder can be made");
        Port::listen(&work.join(name), memories).expect("a socket can be made")
    });
    let start = Instant::now();
    let guest = catch_unwind(|| Guest::boot(work, kernel, initramfs));
    let console = || fs::read_to_string(work.join("console.log")).unwrap_or_default();
    let Ok(guest) = guest else {
        eprintln!("{}", console());
        return ExitCode::FAILURE;
    };
    println!("booted in {:.1} s", start.elapsed().as_secs_f32());
    let mut bench = Bench { guest, ports };
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for (name, scenario) in ALL {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        let start = Instant::now();
        println!("== {name}");
        bench.reset();
        let result = catch_unwind(AssertUnwindSafe(|| scenario(&mut bench)));
        let line = format!("{name} ({:.1} s)", start.elapsed().as_secs_f32());
        if result.is_ok() {
            passed.push(line);
        } else {
            for (number, port) in bench.ports.iter().enumerate() {
                let events = port.events();
                println!("port {number}, last events: {:?}", &events[events.len().saturating_sub(20)..]);
            }
            failed.push(line);
        }
    }
    passed.iter().for_each(|line| println!("ok {line}"));
    failed.iter().for_each(|line| println!("FAILED {line}"));
    println!("{} passed, {} failed in {:.1} s", passed.len(), failed.len(), start.elapsed().as_secs_f32());
    if failed.is_empty() && !passed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("the console of the guest:\n{}", console());
    ExitCode::FAILURE
}
