//! Requests to a device in DIY mode.

use crate::exit::{Code, Failure, chain};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use spark_ota::sonoff::DeviceId;
use spark_ota::sonoff::diy::{DiyAnswer, DiyCall, DiyError, DiyInfo, DiyRequest, PORT};
use spark_ota::sonoff::http::ResponseHead;
use spark_ota::sonoff::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

const CONNECT: Duration = Duration::from_secs(5);
/// Most calls are answered at once.
pub(super) const ANSWER: Duration = Duration::from_secs(15);
/// Bytes of the head of an answer; the body has a limit of its own.
const HEAD: usize = 4096;

/// A device, and when it may be asked again.
#[derive(Debug)]
pub(super) struct Client {
    host: String,
    pub(super) address: SocketAddr,
    /// Our address as the device sees it.
    pub(super) own: IpAddr,
    pub(super) id: Option<DeviceId>,
    next: Instant,
}

/// No answer that can be read.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) failure: Failure,
    /// The request may have arrived.
    pub(super) asked: bool,
}

fn silent(address: impl core::fmt::Display, what: &str) -> Failure {
    Failure::new(
        Code::Unavailable,
        format_args!("{address}: {what}"),
        "look whether the device is in DIY mode, in this network, and has power",
    )
}

impl Client {
    /// Looks whether something answers at `HOST[:PORT]`.
    pub(super) async fn open(place: &str, id: Option<DeviceId>) -> Result<Self, Failure> {
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (place, Some(PORT)),
        };
        let is_host = |byte: u8| byte.is_ascii_graphic() && !br#"/\:?#@[]%"#.contains(&byte);
        let is_place = !host.is_empty() && host.bytes().all(is_host);
        let Some(port) = port.filter(|port| *port != 0 && is_place) else {
            return Err(Failure::new(
                Code::Usage,
                format_args!("{place:?} is no address of a device"),
                format_args!("give a name or an IPv4 address, and a port if it is not {PORT}: 192.168.1.77"),
            ));
        };
        let addresses = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<_> = addresses.map_err(|error| silent(place, &error.to_string()))?.collect();
        for address in addresses {
            if let Ok(Ok(socket)) = timeout(CONNECT, TcpStream::connect(address)).await
                && let Ok(own) = socket.local_addr()
            {
                let next = Instant::now();
                return Ok(Self { host: host.to_owned(), address, own: own.ip(), id, next });
            }
        }
        Err(silent(place, "nothing answers"))
    }

    /// Asks, and waits so long for the answer. The outer error is no answer, the inner one the device's.
    pub(super) async fn call(
        &mut self,
        call: DiyCall,
        patience: Duration,
    ) -> Result<Result<DiyInfo, DiyError>, Unanswered> {
        sleep_until(self.next).await;
        let request = DiyRequest { device_id: self.id, call }.to_http(&self.host);
        let answer = timeout(patience, self.ask(&request)).await;
        self.next = Instant::now() + limits::DIY_INTERVAL;
        answer.unwrap_or_else(|_| {
            Err(Unanswered { failure: silent(self.address, "the device does not answer"), asked: true })
        })
    }

    fn lost(&self, error: &std::io::Error) -> Failure {
        silent(self.address, &format!("the connection was lost: {error}"))
    }

    async fn ask(&self, request: &[u8]) -> Result<Result<DiyInfo, DiyError>, Unanswered> {
        let unasked = |failure| Unanswered { failure, asked: false };
        let socket = match timeout(CONNECT, TcpStream::connect(self.address)).await {
            Ok(socket) => socket.map_err(|error| unasked(self.lost(&error)))?,
            Err(_) => return Err(unasked(silent(self.address, "nothing answers"))),
        };
        let answer = self.answer(socket, request).await;
        answer.map_err(|failure| Unanswered { failure, asked: true })
    }

    async fn answer(
        &self,
        mut socket: TcpStream,
        request: &[u8],
    ) -> Result<Result<DiyInfo, DiyError>, Failure> {
        let lost = |error: std::io::Error| self.lost(&error);
        socket.write_all(request).await.map_err(lost)?;
        let strange = |what: String| {
            Failure::new(
                Code::Protocol,
                format_args!("{}: {what}", self.address),
                "look what is there: it does not answer as a Sonoff in DIY mode",
            )
        };
        let mut received = Vec::new();
        let body = loop {
            let head = ResponseHead::parse(&received).map_err(|error| strange(chain(&error)))?;
            let length = match &head {
                Some((head, _)) => head.content_length().map_err(|error| strange(chain(&error)))?,
                None => None,
            };
            let start = head.map(|(_, start)| start);
            let whole = start
                .zip(length)
                .and_then(|(start, length)| received.get(start..)?.get(..length).map(<[u8]>::to_vec));
            if let Some(body) = whole {
                break body;
            }
            if received.len() > HEAD + limits::DIY_ANSWER {
                return Err(strange("the answer is too long".to_owned()));
            }
            if socket.read_buf(&mut received).await.map_err(lost)? == 0 {
                // Without a length, this is the end of the body.
                match (start.filter(|_| length.is_none()), received.is_empty()) {
                    (Some(start), _) => break received.split_off(start),
                    (None, true) => return Err(silent(self.address, "the device closes without an answer")),
                    (None, false) => return Err(strange("the answer is not whole".to_owned())),
                }
            }
        };
        let answer = DiyAnswer::parse(&body).map_err(|error| strange(chain(&error)))?;
        Ok(answer.result)
    }

    /// Asks for its state, and takes its id from that if none is known.
    pub(super) async fn info(&mut self) -> Result<DiyInfo, Failure> {
        let answer = self.call(DiyCall::Info, ANSWER).await.map_err(|unanswered| unanswered.failure)?;
        let info = answer.map_err(|error| self.refused(error))?;
        self.id = self.id.or(info.device_id);
        Ok(info)
    }

    /// In words, with what to do.
    pub(super) fn refused(&self, error: DiyError) -> Failure {
        let next = match error {
            DiyError::NotDiy => {
                "put it into DIY mode: the jumper of 3.3, or the pairing page of 3.5 and later"
            }
            DiyError::Locked => "run `spark sonoff diy unlock` first",
            DiyError::NotFound => "give its id with --id: it is on the label, and in the name eWeLink_…",
            DiyError::Timeout | DiyError::NotDownloadable => {
                "let the image port through the firewall, and keep this computer in the device's network"
            }
            DiyError::TooLarge => "use a smaller image: 520,192 bytes at most, better 508,000",
            DiyError::Digest => "repeat this command; do not power-cycle the device before it succeeds",
            DiyError::UnlockRefused => "update its firmware in the vendor's app, then try again",
            DiyError::VendorUnreachable => "give the device the internet for the time of this command",
            _ => "update the device's firmware; report this if it stays",
        };
        Failure::new(Code::Protocol, format_args!("{}: {error}", self.address), next)
    }
}
