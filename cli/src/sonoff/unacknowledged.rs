//! How many bytes of a connection have not arrived yet.
//!
//! A write ends when the system has taken the bytes, not when the other end has them. Linux tells how many of a connection
//! are not acknowledged yet in `/proc/net/tcp`; other systems do not without unsafe code.

use core::net::SocketAddr;

/// Bytes that wait to be acknowledged; `None` if that cannot be known.
#[cfg(target_os = "linux")]
pub(super) fn bytes(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let file = if local.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let table = std::fs::read_to_string(file).ok()?;
    // A connection that is not listed has ended, which it does not with bytes that wait, unless it was reset.
    Some(queue(&table, &written(local), &written(peer)).unwrap_or(0))
}

/// Bytes that wait to be acknowledged; `None` if that cannot be known.
#[cfg(not(target_os = "linux"))]
pub(super) const fn bytes(_: SocketAddr, _: SocketAddr) -> Option<u64> {
    None
}

/// An address as it stands in the table: words of 4 bytes in the order of the machine, in hexadecimal.
#[cfg(any(target_os = "linux", test))]
fn written(address: SocketAddr) -> String {
    let word = |bytes: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*bytes));
    let ip = match address {
        SocketAddr::V4(address) => word(&address.ip().octets()),
        SocketAddr::V6(address) => address.ip().octets().as_chunks().0.iter().map(word).collect(),
    };
    format!("{ip}:{:04X}", address.port())
}

/// Bytes of a connection that wait to be acknowledged.
#[cfg(any(target_os = "linux", test))]
fn queue(table: &str, local: &str, peer: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let found = columns.next()? == local && columns.next()? == peer;
        let queues = columns.nth(1).filter(|_| found)?;
        u64::from_str_radix(queues.split(':').next()?, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn line_of_a_connection_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            0: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000\n\
            1: 0100007F:1F90 0204A8C0:D431 04 00001A2B:00000000 01:00000014 00000000\n";
        let find = |local: &str, peer: &str| {
            queue(table, &written(local.parse().unwrap()), &written(peer.parse().unwrap()))
        };
        assert_eq!(find("127.0.0.1:8080", "127.0.0.1:54321"), Some(0));
        assert_eq!(find("127.0.0.1:8080", "192.168.4.2:54321"), Some(0x1a2b));
        assert_eq!(find("127.0.0.1:8081", "127.0.0.1:54321"), None);
        assert_eq!(written("[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }
}
