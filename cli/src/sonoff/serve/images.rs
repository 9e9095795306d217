//! The files that are served.

use super::notes::Notes;
use crate::exit::{Code, Failure};
use crate::files;
use crate::sonoff::{LIMIT, check};
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::server::{FileId, Files, Role};
use spark_ota::sonoff::upgrade::Candidate;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files, and where they are offered.
pub(super) struct Images {
    /// In the order of the table.
    contents: Vec<Arc<[u8]>>,
    paths: Vec<String>,
    roles: Vec<Role>,
    pub(super) running: Option<Slot>,
}

impl Images {
    /// Reads and checks the files.
    pub(super) fn load(
        upgrade: &[PathBuf],
        last: Option<&Path>,
        running: Option<Slot>,
        notes: &Notes,
    ) -> Result<Self, Failure> {
        let contents =
            upgrade.iter().map(|path| files::read_up_to(path, LIMIT)).collect::<Result<Vec<_>, _>>()?;
        let judged = check::for_upgrade(upgrade, &contents, running)?;
        let mut images = Self { contents: Vec::new(), paths: Vec::new(), roles: Vec::new(), running };
        let mut user2 = None;
        for (slot, content) in judged.slots.into_iter().zip(contents) {
            let content: Arc<[u8]> = content.into();
            if slot == Slot::User2 {
                user2 = Some(Arc::clone(&content));
            }
            images.add(format!("/ota/{}", slot.file_name()), Role::Upgrade(slot), content);
        }
        if last.is_some() && user2.is_none() {
            return Err(Failure::new(
                Code::Usage,
                "the devices would start the image for user1, and the final stage then asks for that for user2, which is not there",
                "give user2.bin too: both images with --final, except for devices that run from slot 1",
            ));
        }
        for warning in judged.warnings {
            notes.warning(warning)?;
        }
        if let Some(path) = last {
            let content = files::read_up_to(path, LIMIT)?;
            for warning in check::for_final_stage(path, &content)? {
                notes.warning(warning)?;
            }
            images.add_final(Role::FinalImage, content.into());
            if let Some(content) = user2 {
                images.add_final(Role::FinalUser2, content);
            }
        }
        images.table()?;
        Ok(images)
    }

    fn add(&mut self, path: String, role: Role, content: Arc<[u8]>) {
        self.paths.push(path);
        self.roles.push(role);
        self.contents.push(content);
    }

    fn add_final(&mut self, role: Role, content: Arc<[u8]>) {
        if let Some(path) = role.final_path() {
            self.add(path.to_owned(), role, content);
        }
    }

    /// What the server serves.
    pub(super) fn table(&self) -> Result<Files, Failure> {
        let mut files = Files::new();
        for ((path, role), content) in self.paths.iter().zip(&self.roles).zip(&self.contents) {
            let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
            files.add(path, *role, length).map_err(|problem| {
                Failure::new(
                    Code::Data,
                    format_args!("{path} cannot be served: {problem}"),
                    "use an image that is made for this",
                )
            })?;
        }
        Ok(files)
    }

    pub(super) fn has_final(&self) -> bool {
        self.roles.contains(&Role::FinalImage)
    }

    /// It is written to the beginning of the flash, where a part of it is worse than nothing.
    pub(super) fn is_final(&self, file: FileId) -> bool {
        self.roles.get(file.index()) == Some(&Role::FinalImage)
    }

    /// What each file is called.
    pub(super) fn names(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }

    /// The bytes of a file.
    pub(super) fn content(&self, file: FileId) -> Arc<[u8]> {
        self.contents.get(file.index()).map_or_else(|| Arc::from([]), Arc::clone)
    }

    /// The images of an upgrade, at this host.
    pub(super) fn candidates(&self, host: &str, port: u16) -> Vec<Candidate> {
        let all = self.paths.iter().zip(&self.roles).zip(&self.contents);
        all.filter_map(|((path, role), content)| match role {
            Role::Upgrade(slot) => Some(Candidate::of(*slot, format!("http://{host}:{port}{path}"), content)),
            _ => None,
        })
        .collect()
    }
}
