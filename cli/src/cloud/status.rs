//! `spark cloud status`: how a running cloud is, once or as a live table.

use super::api::StatusBody;
use super::client::Client;
use crate::exit::{Code, Failure};
use crate::ui::print;
use core::time::Duration;
use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, TableState};
use serde::Deserialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

/// Shows how a running cloud is, and its devices.
///
/// On a terminal it is a live table (q ends it, arrows scroll); elsewhere, or with --once, it is printed once. Exit code 69 if
/// the cloud does not answer.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data folder of the cloud, for its token.
    #[arg(long, value_name = "DIR", required_unless_present = "token_file")]
    pub data: Option<PathBuf>,
    /// File with the token, if the cloud runs elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub token_file: Option<PathBuf>,
    /// The cloud's HTTP interface.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub api: String,
    /// Print once.
    #[arg(long)]
    pub once: bool,
    /// Print once, as JSON.
    #[arg(long)]
    pub json: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
}

/// A device, as far as it is shown.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
struct Device {
    id: String,
    name: String,
    online: bool,
    platform_id: Option<u16>,
    last_ip_address: Option<String>,
    last_heard: Option<String>,
    connections: u64,
    transfer: Option<Transfer>,
}

#[derive(Clone, Debug, Deserialize, serde::Serialize)]
struct Transfer {
    module: String,
    chunks: u16,
    sent: u16,
}

/// What the cloud said.
#[derive(Clone, Debug, serde::Serialize)]
struct Snapshot {
    status: StatusBody,
    devices: Vec<Device>,
}

fn look(client: &Client) -> Result<Snapshot, Failure> {
    let mut devices: Vec<Device> = client.get("/v1/devices")?;
    devices.sort_by(|a, b| b.online.cmp(&a.online).then_with(|| a.name.cmp(&b.name)));
    Ok(Snapshot { status: client.get("/v1/status")?, devices })
}

/// Runs `spark cloud status`.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let file = match (&args.token_file, &args.data) {
        (Some(file), _) => file.clone(),
        (None, Some(data)) => data.join("token"),
        (None, None) => PathBuf::from("token"),
    };
    let client = Client::new(&args.api, &file)?;
    // The first look decides whether there is anything to show.
    let first = look(&client)?;
    if args.json {
        return print(serde_json::to_string(&first).unwrap_or_default());
    }
    if args.once || !std::io::stdout().is_terminal() {
        return show(&first);
    }
    live(&client, first, Duration::from_secs(args.interval))
        .map_err(|error| Failure::new(Code::Io, format_args!("the terminal: {error}"), "use --once"))
}

/// Devices choose their names, and a terminal must not obey them.
fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

fn state(device: &Device) -> String {
    match &device.transfer {
        Some(transfer) => {
            format!("{} {}/{}", plain(&transfer.module), transfer.sent, transfer.chunks)
        }
        None if device.online => "online".to_owned(),
        None => "offline".to_owned(),
    }
}

fn platform(device: &Device) -> String {
    match device.platform_id {
        Some(0) => "Core".to_owned(),
        Some(6) => "Photon".to_owned(),
        Some(8) => "P1".to_owned(),
        Some(10) => "Electron".to_owned(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    }
}

fn summary(status: &StatusBody) -> String {
    format!(
        "{} devices, {} online, {} updating; {} of {} connections, {} before Hello, {} RSA jobs; {} keys wait; {} modules; up {} s",
        status.devices,
        status.online,
        status.updating,
        status.connections,
        status.max_connections,
        status.half_open,
        status.work,
        status.waiting_keys,
        status.modules,
        status.uptime
    )
}

fn show(snapshot: &Snapshot) -> Result<(), Failure> {
    print(summary(&snapshot.status))?;
    for device in &snapshot.devices {
        print(format_args!(
            "{} {:24} {:8} {:15} {:24} {}",
            device.id,
            plain(&device.name),
            platform(device),
            device.last_ip_address.as_deref().unwrap_or("-"),
            device.last_heard.as_deref().unwrap_or("-"),
            state(device)
        ))?;
    }
    Ok(())
}

/// The live table. The terminal is as before when this returns, or panics.
fn live(client: &Client, first: Snapshot, interval: Duration) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let result = watch(&mut terminal, client, first, interval);
    ratatui::restore();
    result
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    client: &Client,
    mut snapshot: Snapshot,
    interval: Duration,
) -> std::io::Result<()> {
    let (mut trouble, mut selected) = (None, TableState::default().with_selected(0));
    let mut looked = Instant::now();
    loop {
        terminal.draw(|frame| draw(frame, &snapshot, trouble.as_deref(), &mut selected))?;
        if event::poll(interval.saturating_sub(looked.elapsed()))?
            && let Event::Key(key) = event::read()?
            && key.is_press()
        {
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                KeyCode::Down | KeyCode::Char('j') => selected.scroll_down_by(1),
                KeyCode::Up | KeyCode::Char('k') => selected.scroll_up_by(1),
                KeyCode::PageDown => selected.scroll_down_by(20),
                KeyCode::PageUp => selected.scroll_up_by(20),
                KeyCode::Home => selected.select_first(),
                KeyCode::End => selected.select_last(),
                _ => {}
            }
        }
        if looked.elapsed() >= interval {
            looked = Instant::now();
            match look(client) {
                Ok(new) => (snapshot, trouble) = (new, None),
                // It may be starting anew.
                Err(failure) => trouble = Some(failure.what().to_owned()),
            }
        }
    }
}

fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, trouble: Option<&str>, selected: &mut TableState) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(3), Constraint::Length(1)])
            .areas(frame.area());
    let top = match trouble {
        Some(trouble) => Line::from(Span::styled(trouble.to_owned(), Style::new().fg(Color::Red))),
        None => Line::from(summary(&snapshot.status)),
    };
    frame.render_widget(Paragraph::new(top), head);
    let rows = snapshot.devices.iter().map(|device| {
        let color = match (&device.transfer, device.online) {
            (Some(_), _) => Color::Yellow,
            (None, true) => Color::Green,
            (None, false) => Color::DarkGray,
        };
        Row::new([
            Cell::from(plain(&device.name)),
            Cell::from(device.id.clone()),
            Cell::from(platform(device)),
            Cell::from(device.last_ip_address.clone().unwrap_or_default()),
            Cell::from(device.last_heard.clone().unwrap_or_default()),
            Cell::from(device.connections.to_string()),
            Cell::from(state(device)).style(Style::new().fg(color)),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(24),
        Constraint::Length(8),
        Constraint::Length(15),
        Constraint::Length(24),
        Constraint::Length(6),
        Constraint::Fill(2),
    ];
    let header = Row::new(["name", "id", "platform", "address", "last heard", "conn", "state"])
        .style(Style::new().add_modifier(Modifier::BOLD));
    let table = Table::new(rows, widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::bordered().title("devices"));
    frame.render_stateful_widget(table, body, selected);
    frame.render_widget(Paragraph::new("q quits, arrows scroll"), foot);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn snapshot() -> Snapshot {
        let status = serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "uptime": 5, "devices": 2, "online": 1, "updating": 1, "waiting_keys": 0,
            "connections": 1, "max_connections": 10, "half_open": 0, "work": 0, "modules": 3, "watchers": 0,
            "events_missed": 0, "enrolment": "manual", "back_end": "rsa",
        }));
        let device = |name: &str, online, transfer| Device {
            id: "53ff6d065072534212345667".to_owned(),
            name: name.to_owned(),
            online,
            platform_id: Some(6),
            last_ip_address: Some("10.0.0.7".to_owned()),
            last_heard: None,
            connections: 3,
            transfer,
        };
        let transfer = Transfer { module: "system-part1.bin".to_owned(), chunks: 491, sent: 100 };
        let devices = vec![device("brewer\u{1b}[2J", true, Some(transfer)), device("cellar", false, None)];
        Snapshot { status: status.unwrap(), devices }
    }

    #[test]
    fn table_shows_every_device_and_its_state_and_obeys_no_name() {
        let mut terminal = Terminal::new(TestBackend::new(140, 10)).unwrap();
        let mut selected = TableState::default();
        terminal.draw(|frame| draw(frame, &snapshot(), None, &mut selected)).unwrap();
        let text = terminal.backend().to_string();
        for wanted in
            ["2 devices, 1 online", "cellar", "offline", "Photon", "system-part1.bin 100/491", "\\u{1b}[2J"]
        {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
        terminal.draw(|frame| draw(frame, &snapshot(), Some("it is gone"), &mut selected)).unwrap();
        assert!(terminal.backend().to_string().contains("it is gone"));
    }
}
