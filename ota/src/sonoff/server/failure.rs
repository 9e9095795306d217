//! Why an upgrade failed, and what a person can do.

use crate::sonoff::text::Version;
use alloc::format;
use alloc::string::ToString as _;
use core::ops::Range;

/// How an upgrade ended that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Failure {
    /// Nobody has asked for an image: the device has answered 404, or nothing.
    #[error("the device has not asked for an image{}", if *.answered { ", and says that the download failed (404)" } else { "" })]
    NoDownload {
        /// It has answered.
        answered: bool,
    },
    /// The connection to the device was closed when the upgrade was offered, before it asked for an image.
    #[error("the device has closed its connection when the upgrade was offered")]
    ClosedOnUpgrade,
    /// The whole file was sent at once, and the device has answered 404.
    #[error("the device could not take the image as fast as it came (404)")]
    Overrun,
    /// The device has answered 404 after the first piece.
    #[error("the device has given up after the first {} bytes of {total} (404)", .last.end)]
    FirstPiece {
        /// What it has asked for.
        last: Range<u32>,
        /// Bytes of the image.
        total: u32,
    },
    /// The download broke off.
    #[error("the download has ended after {sent} bytes of {total}, the last ones asked for were {} to {}", .last.start, .last.end)]
    Download {
        /// Different bytes that were sent.
        sent: u32,
        /// Bytes of the image.
        total: u32,
        /// What was asked for last.
        last: Range<u32>,
    },
    /// The device has gone, and has not come back in time.
    #[error("the device has gone after {sent} bytes of {total} and has not come back")]
    Lost {
        /// Different bytes that were sent.
        sent: u32,
        /// Bytes of the image.
        total: u32,
    },
    /// 400.
    #[error("the device misses a field of the upgrade, or the image for its slot (400)")]
    BadRequest,
    /// 406 or 411.
    #[error("the device is of another model than the images are for ({code})")]
    Model {
        /// The code.
        code: u16,
    },
    /// 409.
    #[error("what the device has written to its flash has another digest (409)")]
    Digest,
    /// 410.
    #[error("the device does not take the version for a newer one (410)")]
    Version,
    /// Another code.
    #[error("the device has answered with the unknown code {code}")]
    Code {
        /// The code.
        code: u16,
    },
    /// The whole image was sent, and nothing was heard since.
    #[error("the whole image was sent, and the device has not said whether it has it")]
    NoResult,
    /// The device says that it has an image, of which not all was sent to it.
    #[error("the device says that it has the image, of which {sent} bytes of {total} were sent")]
    NotServed {
        /// Different bytes that were sent.
        sent: u32,
        /// Bytes of the image; 0 if it was not asked for.
        total: u32,
    },
    /// The device came back with another version before it had got the whole image: it is not from here.
    #[error("the device came back with {rom_version}, which is not from here: {}", if *.total == 0 { "it has not asked for an image".to_string() } else { format!("{sent} bytes of {total} were sent") })]
    OtherVersion {
        /// That version.
        rom_version: Version,
        /// Different bytes that were sent.
        sent: u32,
        /// Bytes of the image; 0 if it was not asked for.
        total: u32,
    },
    /// The image was installed, and the final stage has not asked for its files.
    #[error("the device has taken the image, and nobody has asked for the final one")]
    NoFinalStage,
    /// The final stage has asked for a file that is not served.
    #[error("the device has taken the image, and the final stage asks for a file that is not served")]
    FinalFileMissing,
    /// The final stage has asked for a file and not got the final image as a whole.
    #[error("the final stage has stopped after {sent} bytes of {total}")]
    FinalStage {
        /// Bytes of the last attempt.
        sent: u32,
        /// Bytes of the final image; 0 if it was not asked for.
        total: u32,
    },
    /// The device came back with the version that it had.
    #[error("the device has taken the image and came back with the old firmware {rom_version}")]
    DidNotBoot {
        /// That version.
        rom_version: Version,
    },
}

/// What such a failure is called by, with its cause and what helps. Some are seen before there is an upgrade: by who connects,
/// or does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Diagnosis {
    /// An old downloader that cannot write as fast as data comes.
    Overrun,
    /// The port of the images cannot be reached by the device.
    Unreachable,
    /// The Wi-Fi connection broke, or the head of an answer was not understood.
    Interrupted,
    /// The device takes no file of this length, or has got another answer than 206.
    FirstPiece,
    /// After its settings were taken the device did not come.
    NeverCame,
    /// The firmware checks the certificate.
    Certificate,
    /// The two ends have no TLS in common.
    TlsSettings,
    /// The model is another.
    Model,
    /// The version is not newer.
    Version,
    /// The image came out wrong.
    Digest,
    /// A field is missing.
    BadRequest,
    /// The image does not start.
    DoesNotBoot,
    /// It is not known what became of the device.
    Unknown,
    /// Another server has upgraded the device, or this one before it was started anew.
    OtherServer,
    /// The final stage is on, and nobody asks for a file.
    FinalStageSilent,
    /// The final stage asks for the same file again and again.
    FinalStageRepeats,
    /// The final stage asks for a file that is not served.
    FinalStageMissing,
}

impl Failure {
    /// A word for it that stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoDownload { .. } => "no-download",
            Self::ClosedOnUpgrade => "closed-on-upgrade",
            Self::Overrun => "overrun",
            Self::FirstPiece { .. } => "first-piece",
            Self::Download { .. } => "download",
            Self::Lost { .. } => "lost",
            Self::BadRequest => "bad-request",
            Self::Model { .. } => "model",
            Self::Digest => "digest",
            Self::Version => "version",
            Self::Code { .. } => "unknown-code",
            Self::NoResult => "no-result",
            Self::NotServed { .. } => "not-served",
            Self::OtherVersion { .. } => "other-version",
            Self::NoFinalStage => "no-final-stage",
            Self::FinalFileMissing => "final-file-missing",
            Self::FinalStage { .. } => "final-stage",
            Self::DidNotBoot { .. } => "did-not-boot",
        }
    }

    /// What it is called by.
    #[must_use]
    pub const fn diagnosis(&self) -> Diagnosis {
        match self {
            Self::NoDownload { .. } => Diagnosis::Unreachable,
            Self::ClosedOnUpgrade | Self::Model { .. } => Diagnosis::Model,
            Self::Overrun => Diagnosis::Overrun,
            Self::FirstPiece { .. } => Diagnosis::FirstPiece,
            Self::Download { .. } | Self::Lost { .. } => Diagnosis::Interrupted,
            Self::BadRequest => Diagnosis::BadRequest,
            Self::Digest => Diagnosis::Digest,
            Self::Version => Diagnosis::Version,
            Self::DidNotBoot { .. } => Diagnosis::DoesNotBoot,
            Self::NoFinalStage => Diagnosis::FinalStageSilent,
            Self::FinalFileMissing => Diagnosis::FinalStageMissing,
            Self::FinalStage { .. } => Diagnosis::FinalStageRepeats,
            Self::OtherVersion { .. } => Diagnosis::OtherServer,
            Self::Code { .. } | Self::NoResult | Self::NotServed { .. } => Diagnosis::Unknown,
        }
    }

    /// What helps.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        self.diagnosis().advice()
    }

    /// Another attempt may end otherwise.
    #[must_use]
    pub const fn is_worth_retrying(&self) -> bool {
        matches!(
            self.diagnosis(),
            Diagnosis::Unreachable | Diagnosis::Overrun | Diagnosis::Interrupted | Diagnosis::FirstPiece
        ) && !matches!(self, Self::Lost { .. })
    }
}

impl Diagnosis {
    /// Why it happens.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Overrun => "older firmware (1.2.0 to 1.5.2) cannot write as fast as data comes",
            Self::Unreachable => "the device could not reach the port of the images",
            Self::Interrupted => "the Wi-Fi connection of the device broke during the download",
            Self::FirstPiece => {
                "the device does not take a file of this length, or something between rewrites answers"
            }
            Self::NeverCame => "the device could not join the network, or cannot reach this computer in it",
            Self::Certificate => {
                "the firmware checks the certificate of the server (1.6 to before 2.0, and from 2.6 on)"
            }
            Self::TlsSettings => "the two ends have no version of TLS or no cipher in common",
            Self::Model => "the images are offered for another model",
            Self::Version => "devices compare the first five characters of versions as text",
            Self::Digest => "the image was damaged on its way or in the flash",
            Self::BadRequest => "this firmware wants something else in an upgrade",
            Self::DoesNotBoot => {
                "the image does not start: its slot, its flash mode or its format does not fit"
            }
            Self::Unknown => "the device has not said enough to know",
            Self::OtherServer => {
                "another server has upgraded the device meanwhile, or this one did before it was started anew"
            }
            Self::FinalStageSilent => "nobody at 192.168.4.2:8080 answers the device",
            Self::FinalStageMissing => "the device asks for a file that this server does not have",
            Self::FinalStageRepeats => "the device has trouble to write or to receive the file",
        }
    }

    /// A word for it that stays the same.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
            Self::FirstPiece => "first-piece",
            Self::NeverCame => "never-came",
            Self::Certificate => "certificate",
            Self::TlsSettings => "tls-settings",
            Self::Model => "model",
            Self::Version => "version",
            Self::Digest => "digest",
            Self::BadRequest => "bad-request",
            Self::DoesNotBoot => "does-not-boot",
            Self::Unknown => "unknown",
            Self::OtherServer => "other-server",
            Self::FinalStageSilent => "final-stage-silent",
            Self::FinalStageRepeats => "final-stage-repeats",
            Self::FinalStageMissing => "final-stage-missing",
        }
    }

    /// What a person can do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Overrun => {
                "offer it again, paced; or upgrade the device to 1.5.5 with the vendor's app first"
            }
            Self::Unreachable => {
                "allow the port of the images in the firewall of this computer, and check that the address in the URL is that of this computer in the device's network"
            }
            Self::Interrupted => "bring the device closer to the access point and try again",
            Self::FirstPiece => "use an image of at most 471040 bytes, without a proxy between",
            Self::NeverCame => {
                "check the Wi-Fi password, use a network of 2.4 GHz that lets its clients talk to each other (a phone's hotspot does), and provision the device again"
            }
            Self::Certificate => {
                "no other server than the vendor's is taken by it: use its DIY mode or the serial pins"
            }
            Self::TlsSettings => {
                "offer TLS 1.0 to 1.2 with an RSA certificate and the ciphers of RSA key exchange"
            }
            Self::Model => "use the model that the device has registered with",
            Self::Version => "offer the images as version 9.9.9",
            Self::Digest => "try again; if it stays so, the flash of the device is worn",
            Self::BadRequest => "offer both images and autoRestart",
            Self::DoesNotBoot => {
                "check the images, each for its slot, with flash mode DOUT; switch the device off and on once"
            }
            Self::OtherServer => {
                "look whether the device runs what it shall; if it does, all is done, and if not, start again"
            }
            Self::Unknown => {
                "wait a minute, look whether the device or its access point comes back, and try again"
            }
            Self::FinalStageSilent => {
                "join the network FinalStage as its first client, so that this computer gets 192.168.4.2, and allow port 8080 in the firewall for it, which takes it for a new and public network; if there is no such network, switch the device off and on once, and check the images"
            }
            Self::FinalStageMissing => {
                "serve the final image, and both images of the upgrade: from slot 1 the device wants the one of user2 first"
            }
            Self::FinalStageRepeats => "switch the device off and on, and stay close to it",
        }
    }
}
