//! The answer to `s`: what is installed, and what the device thinks of it.

use crate::describe::installed_module;
use crate::module::{Installed, Validity};
use coap_spark::message::describe::{Describe, DescribeError, ModuleInfo};
use core::fmt;

/// What a device checks of a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Check {
    /// Its checksum.
    Integrity,
    /// It lies where it belongs.
    AddressRange,
    /// It is for this kind of device.
    Platform,
    /// What it needs is there.
    Dependencies,
}

impl Check {
    /// All, in the order in which people read them.
    pub const ALL: [Self; 4] = [Self::Integrity, Self::AddressRange, Self::Platform, Self::Dependencies];

    const fn bit(self) -> Validity {
        match self {
            Self::Integrity => Validity::INTEGRITY,
            Self::AddressRange => Validity::RANGE,
            Self::Platform => Validity::PLATFORM,
            Self::Dependencies => Validity::DEPENDENCIES,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integrity => "Integrity",
            Self::AddressRange => "Address Range",
            Self::Platform => "Platform",
            Self::Dependencies => "Dependencies",
        })
    }
}

/// Why an answer is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectionError {
    /// There is no JSON object in it.
    #[error("the answer has no description of the modules")]
    NoDocument,
    /// It cannot be read.
    #[error("the description of the modules cannot be read")]
    Document(#[source] DescribeError),
}

/// The modules of a device.
#[derive(Clone, PartialEq, Debug)]
pub struct Inspection {
    /// The document as it was told.
    pub describe: Describe,
}

/// A place for a module, and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Inspected<'a> {
    /// As it was told.
    pub info: &'a ModuleInfo,
}

impl Inspection {
    /// Reads an answer; what is around the document is left out.
    ///
    /// ```
    /// use spark_ota::serial::{Check, Inspection};
    ///
    /// let reply = br#"{"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":26,"f":"s","n":"2","v":207,"d":[]}]}"#;
    /// let inspection = Inspection::parse(reply)?;
    /// let module = inspection.modules().next().unwrap();
    /// assert_eq!((module.passes(Check::Integrity), module.passes(Check::Dependencies)), (Some(true), Some(false)));
    /// # Ok::<(), spark_ota::serial::InspectionError>(())
    /// ```
    ///
    /// # Errors
    /// [`InspectionError`].
    pub fn parse(reply: &[u8]) -> Result<Self, InspectionError> {
        let start = reply.iter().position(|byte| *byte == b'{');
        let end = reply.iter().rposition(|byte| *byte == b'}').map(|at| at + 1);
        let document =
            start.zip(end).and_then(|(start, end)| reply.get(start..end)).filter(|it| !it.is_empty());
        let document = document.ok_or(InspectionError::NoDocument)?;
        let describe = Describe::from_json(document).map_err(InspectionError::Document)?;
        if describe.modules.is_none() {
            return Err(InspectionError::NoDocument);
        }
        Ok(Self { describe })
    }

    /// Its places, in their order.
    pub fn modules(&self) -> impl Iterator<Item = Inspected<'_>> {
        self.describe.modules.iter().flatten().map(|info| Inspected { info })
    }
}

impl Inspected<'_> {
    /// The module, if there is one.
    #[must_use]
    pub fn module(&self) -> Option<Installed> {
        installed_module(self.info)
    }

    /// The result of a check; `None` if the device has not made it.
    #[must_use]
    pub const fn passes(&self, check: Check) -> Option<bool> {
        let bit = check.bit().0;
        if self.info.validity_checked & bit == 0 { None } else { Some(self.info.validity_result & bit != 0) }
    }

    /// Every check that was made succeeded.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.info.validity_checked == self.info.validity_result
    }
}
