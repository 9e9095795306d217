//! Which module a device gets next: its Describe and the catalogue through the resolver of `spark-ota`.

use super::catalogue::{Catalogue, ModuleFile};
use coap_spark::message::describe::Describe;
use spark_ota::describe::{installed, rooms};
use spark_ota::resolve::{Attempt, CatalogueEntry, Request, Step, next_step};

/// How often which module was sent to a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attempts {
    sent: Vec<Attempt>,
}

impl Attempts {
    /// Counts one more.
    pub fn count(&mut self, file: &ModuleFile) {
        let (key, version) = (file.key(), file.prefix.version);
        match self.sent.iter_mut().find(|attempt| attempt.key == key && attempt.version == version) {
            Some(attempt) => attempt.times = attempt.times.saturating_add(1),
            None => self.sent.push(Attempt { key, version, times: 1 }),
        }
    }
}

/// What to do about a device's modules.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Next {
    /// Nothing is missing.
    Nothing,
    /// Send this one.
    Send {
        /// The file.
        file: ModuleFile,
        /// Why it, and why now.
        why: String,
    },
    /// What is missing cannot be sent.
    Impossible(String),
}

/// Decides.
#[must_use]
pub fn next_update(describe: &Describe, catalogue: &Catalogue, attempts: &Attempts) -> Next {
    let Some(platform_id) = describe.platform_id else {
        return Next::Impossible("it does not say its platform".to_owned());
    };
    let files = catalogue.files();
    let entries: Vec<CatalogueEntry> = files.iter().map(ModuleFile::entry).collect();
    let (installed, rooms) = (installed(describe), rooms(describe));
    let request = Request {
        attempts: &attempts.sent,
        rooms: &rooms,
        use_bootstrap: true,
        ..Request::new(platform_id, &installed, &entries)
    };
    match next_step(&request) {
        Step::Done => Next::Nothing,
        Step::Flash(step) => match files.get(step.entry) {
            Some(file) => Next::Send { file: file.clone(), why: step.to_string() },
            None => Next::Impossible("the plan names a module that is not there".to_owned()),
        },
        Step::Impossible(reason) => Next::Impossible(reason.to_string()),
        other => Next::Impossible(format!("the resolver says {other:?}")),
    }
}
