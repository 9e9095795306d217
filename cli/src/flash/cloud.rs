//! Over the air: modules to a running `spark cloud serve`, and from there to the device.

use super::Args;
use super::input::Input;
use crate::cloud::client::Client;
use crate::exit::{Code, Failure};
use crate::ui::{Ui, print};
use core::time::Duration;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// How often the cloud is asked how far it is.
const LOOK: Duration = Duration::from_millis(300);
/// A device that is not connected for so long is not waited for: the update stays with the cloud.
const ABSENCE: Duration = Duration::from_secs(120);

/// Which device, and how the cloud is reached.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct CloudOptions {
    /// Id or name of the device, with --cloud.
    #[arg(long, value_name = "DEVICE", requires = "cloud_url")]
    to: Option<String>,
    /// Data folder of the cloud, for its token.
    #[arg(long, value_name = "DIR", requires = "cloud_url")]
    data: Option<PathBuf>,
    /// File with the token, if the cloud runs elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "data", requires = "cloud_url")]
    token_file: Option<PathBuf>,
    /// One chunk, one answer: for links that lose much.
    #[arg(long, requires = "cloud_url")]
    slow: bool,
}

#[derive(Deserialize)]
struct Kept {
    sha256: String,
}

#[derive(Deserialize)]
struct Planned {
    steps: Vec<Step>,
    bytes: u64,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    size: u64,
    why: String,
    state: String,
}

#[derive(Deserialize)]
struct Update {
    id: String,
    connected: bool,
    plan: Option<Plan>,
    transfer: Option<Transfer>,
}

#[derive(Deserialize)]
struct Plan {
    number: u64,
    state: String,
    reason: Option<String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Transfer {
    module: String,
    chunks: u64,
    sent: u64,
}

/// Shows the plan, sends it, and stays until the device runs it all.
///
/// # Errors
/// [`Failure`] in the cloud's own words.
pub(super) fn run(url: &str, args: &Args, files: &[Input], json: bool) -> Result<(), Failure> {
    let options = &args.cloud;
    let device = options.to.as_deref().ok_or_else(|| {
        Failure::new(
            Code::Usage,
            "--cloud needs the device",
            "name it with --to; `spark cloud status` lists them",
        )
    })?;
    let token = match (&options.token_file, &options.data) {
        (Some(file), _) => file.clone(),
        (None, Some(data)) => data.join("token"),
        (None, None) => {
            let next = "give its data folder with --data, or the token itself with --token-file";
            return Err(Failure::new(Code::Usage, "--cloud needs the cloud's token", next));
        }
    };
    let (client, ui) = (Client::new(url, &token)?, Ui::new(json));
    let device = percent(device);
    // Before anything is kept: is there such a device?
    let before: Update = client.get(&format!("/v1/updates/{device}"))?;
    let mut digests = Vec::new();
    for Input { name, content } in files {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let kept: Vec<Kept> = client.upload("/v1/firmware", name, content)?;
        digests.extend(kept.into_iter().map(|kept| kept.sha256));
    }
    let modules = digests.join(",");
    let planned: Planned = client.get(&format!("/v1/updates/{device}/plan?modules={modules}"))?;
    for step in &planned.steps {
        ui.note(format_args!("{} ({} bytes): {}", step.name, step.size, step.why));
    }
    let steps =
        planned.steps.iter().map(|step| json!({ "name": step.name, "size": step.size, "why": step.why }));
    let steps: Vec<Value> = steps.collect();
    if args.dry_run || planned.steps.is_empty() {
        if planned.steps.is_empty() {
            ui.note("the device has all of it");
        }
        let result =
            json!({ "device": before.id, "dry_run": args.dry_run, "steps": steps, "bytes": planned.bytes });
        return if json { print(result) } else { Ok(()) };
    }
    let begun: Update = client
        .post(&format!("/v1/updates/{device}"), &json!({ "modules": modules, "slow": options.slow }))?;
    let number = begun.plan.as_ref().map(|plan| plan.number);
    let started = Instant::now();
    let last = follow(&client, &device, number, &ui)?;
    let plan = last
        .plan
        .ok_or_else(|| Failure::new(Code::Protocol, "the cloud has forgotten the update", "see its log"))?;
    if Some(plan.number) != number {
        return Err(Failure::new(
            Code::Unavailable,
            format_args!("update {} has taken the place of this one", plan.number),
            "wait for it, or cancel it, and repeat the command",
        ));
    }
    if plan.state != "done" {
        let reason = plan.reason.unwrap_or_else(|| plan.state.clone());
        return Err(Failure::new(
            Code::Protocol,
            format_args!("the update ended: {}", reason.escape_debug()),
            format_args!("see `GET /v1/diagnosis/{}` of the cloud, and try again", last.id),
        ));
    }
    ui.note(format_args!("{} runs it all after {:.0} s", last.id, started.elapsed().as_secs_f64()));
    let result = json!({ "device": last.id, "dry_run": false, "steps": steps, "bytes": planned.bytes, "update": plan.number });
    if json { print(result) } else { Ok(()) }
}

/// Until this update has ended.
fn follow(client: &Client, device: &str, number: Option<u64>, ui: &Ui) -> Result<Update, Failure> {
    let mut bar: Option<(String, ProgressBar)> = None;
    let mut seen = Instant::now();
    loop {
        let update: Update = client.get(&format!("/v1/updates/{device}"))?;
        let Some(plan) = &update.plan else { return Ok(update) };
        if plan.state != "running" || Some(plan.number) != number {
            return Ok(update);
        }
        if update.connected {
            seen = Instant::now();
        }
        if seen.elapsed() > ABSENCE {
            let done = plan.steps.iter().filter(|step| step.state == "installed").count();
            return Err(Failure::new(
                Code::Unavailable,
                format_args!("the device is away; {done} of {} modules are installed", plan.steps.len()),
                "the cloud goes on when it comes back",
            ));
        }
        match (&update.transfer, &bar) {
            (Some(transfer), Some((module, bar))) if *module == transfer.module => {
                bar.set_position(transfer.sent)
            }
            (Some(transfer), _) => {
                if let Some((_, bar)) = bar.take() {
                    bar.finish_and_clear();
                }
                let new = ui.bar(&transfer.module.escape_debug().to_string(), transfer.chunks);
                new.set_position(transfer.sent);
                bar = Some((transfer.module.clone(), new));
            }
            (None, _) => bar = None,
        }
        std::thread::sleep(LOOK);
    }
}

/// A name as a segment of a path.
fn percent(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    name.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
