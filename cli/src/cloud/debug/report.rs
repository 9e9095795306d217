//! What was tried and what it means.

use crate::exit::{Code, Failure};
use crate::ui;
use coap_spark::diagnosis::{Generation, Row};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) step: &'static str,
    pub(super) ok: bool,
    pub(super) took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    pub(super) detail: String,
    /// It works, but should not be like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warning: Option<String>,
    /// Of the row that explains the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) diagnosis: Option<&'static str>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// All steps, shown as they happen or at the end as JSON.
#[derive(Debug)]
pub(super) struct Report {
    host: String,
    port: u16,
    steps: Vec<Step>,
    rows: Vec<&'static Row>,
    is_json: bool,
}

impl Report {
    pub(super) const fn new(host: String, port: u16, is_json: bool) -> Self {
        Self { host, port, steps: Vec::new(), rows: Vec::new(), is_json }
    }

    /// Adds a step and shows it.
    pub(super) fn add(&mut self, step: Step, row: Option<&'static Row>) -> Result<(), Failure> {
        if !self.is_json {
            let mark = if step.ok { "ok    " } else { "FAILED" };
            let address = step.address.as_deref().map(|address| format!(" {address}")).unwrap_or_default();
            ui::print(format_args!("{mark} {}{address}: {} ({} ms)", step.step, step.detail, step.took_ms))?;
            if let Some(warning) = &step.warning {
                ui::print(format_args!("       warning: {warning}"))?;
            }
        }
        self.steps.push(step);
        if let Some(row) = row
            && !self.rows.contains(&row)
        {
            self.rows.push(row);
        }
        Ok(())
    }

    /// What it all comes to.
    pub(super) fn finish(&self, verdict: Result<(), Code>) -> Result<(), Failure> {
        if self.is_json {
            let diagnosis: Vec<Value> = self.rows.iter().map(|row| row_json(row)).collect();
            return ui::print(json!({
                "host": self.host,
                "port": self.port,
                "steps": self.steps,
                "ok": verdict.is_ok(),
                "diagnosis": diagnosis,
            }));
        }
        for row in &self.rows {
            ui::print(format_args!("\n{row}"))?;
            let lights: Vec<String> = row.signals.iter().map(ToString::to_string).collect();
            if !lights.is_empty() {
                ui::print(format_args!("  LED: {}", lights.join(" or ")))?;
            }
            for (generation, name) in GENERATIONS {
                let codes: Vec<String> = row.codes(generation).map(|code| code.to_string()).collect();
                if !codes.is_empty() {
                    ui::print(format_args!("  code of Device OS {name}: {}", codes.join(", ")))?;
                }
            }
        }
        match verdict {
            Ok(()) => ui::print("\nthe cloud answers as devices expect"),
            Err(_) => Ok(()),
        }
    }
}

const GENERATIONS: [(Generation, &str); 3] = [
    (Generation::UpTo0_7, "0.4.9 to 0.7.0"),
    (Generation::UpTo1_5, "0.8.0 to 1.5.2"),
    (Generation::V2, "2.0.0 to 2.3.1"),
];

fn row_json(row: &Row) -> Value {
    let points: Vec<String> = row.points.iter().map(|point| format!("F{}", point.number())).collect();
    let lights: Vec<Value> = row
        .signals
        .iter()
        .map(|signal| json!({ "color": signal.led.name(), "flashes": signal.blinks }))
        .collect();
    let codes: Map<String, Value> = GENERATIONS
        .into_iter()
        .map(|(generation, name)| (name.to_owned(), row.codes(generation).collect::<Vec<i32>>().into()))
        .collect();
    json!({
        "code": row.code,
        "points": points,
        "meaning": row.meaning,
        "at_the_device": row.symptom,
        "at_the_server": row.server,
        "first": row.action,
        "led": lights,
        "codes": codes,
    })
}
