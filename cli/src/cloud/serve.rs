//! `spark cloud serve`: the local cloud as a program.

use super::catalogue::Catalogue;
use super::folder::Folder;
use super::session::SessionOptions;
use super::{Cloud, Enrolment, Options};
use crate::exit::{Code, Failure};
use crate::ui::{print, say};
use spark_ota::transfer::Options as Transfer;
use std::path::PathBuf;
use tokio::net::TcpListener;

/// Runs a local cloud that devices connect to.
///
/// On the first start it makes a server key and the data folder and says what to do next. Devices whose public key is
/// in DIR/devices may connect; the key of an unknown device is kept in DIR/pending, and moving it to
/// DIR/devices/ID.pub.pem lets the device in. Module files in DIR/modules are sent to devices that lack them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on; devices expect port 5683.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:5683")]
    pub listen: String,
    /// Folder with keys, devices and module files; made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// How devices become known.
    #[arg(long, value_enum, default_value = "manual")]
    pub enrolment: Enrolment,
    /// Do not send modules to devices.
    #[arg(long)]
    pub no_update: bool,
    /// Send all modules in slow mode: one chunk, one answer.
    #[arg(long)]
    pub slow: bool,
    /// Bytes per chunk.
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = clap::value_parser!(u16).range(64..=720))]
    pub chunk_size: u16,
    /// Print events as JSON, one a line, on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Runs the cloud until it is interrupted.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot start: {error}"), "free some memory or threads")
    })?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> Result<(), Failure> {
    let (folder, new) = Folder::open(&args.data, &mut rand::rng())?;
    let (catalogue, refused) = Catalogue::load(&folder.modules())?;
    for failure in refused {
        say(format_args!("left out: {failure}"));
    }
    let modules = catalogue.files().len();
    let session = SessionOptions {
        update: !args.no_update,
        slow: if args.slow { "bsu".to_owned() } else { String::new() },
        transfer: Transfer { chunk_size: args.chunk_size, ..Transfer::DEFAULT },
    };
    let server_key = folder.server_public_key_file();
    let options = Options::new(args.enrolment, session);
    let cloud = Cloud::new(folder, catalogue, options)?;
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| {
        Failure::new(
            Code::Unavailable,
            format_args!("cannot listen on {}: {error}", args.listen),
            "choose another address with --listen, or stop what uses this one",
        )
    })?;
    let address = listener.local_addr().map_or_else(|_| args.listen.clone(), |address| address.to_string());
    say(format_args!("listening on {address}, {modules} module files"));
    if new {
        say(format_args!("this is a new cloud, its public key is {}", server_key.display()));
        say("next, with a device in DFU mode, give it key and address and let the cloud know it:");
        say(format_args!("  spark keys doctor --cloud {} --host THIS-HOST", args.data.display()));
    }
    let mut events = cloud.subscribe();
    let serving = tokio::spawn(cloud.serve(listener));
    // One future for the whole time: a signal between two of them would be lost.
    let mut stop = core::pin::pin!(crate::interrupt::interrupted());
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) if args.json => {
                    print(serde_json::to_string(&event).unwrap_or_default())?;
                }
                Ok(event) => say(event),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                    say(format_args!("{missed} events were not shown"));
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(()),
            },
            () = &mut stop => {
                serving.abort();
                return Ok(());
            }
        }
    }
}
