//! What TLS says between data once the kernel carries it: alerts, and messages of the handshake after its end. The kernel
//! decrypts them and leaves the rest to its caller.

use super::counts::Ended;
use super::crypto_info::Version;
use crate::net::listen::Direction;

/// Types of records (RFC 8446, appendix B.1).
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// Alerts (RFC 8446, section 6), with the level that TLS 1.2 gives them.
pub(super) const CLOSE_NOTIFY: [u8; 2] = [WARNING, 0];
const WARNING: u8 = 1;
const USER_CANCELED: u8 = 90;

/// Messages of the handshake (RFC 8446, appendix B.3; RFC 5246, section 7.4).
const HELLO_REQUEST: u8 = 0;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// A message's type, and its length in three bytes.
const MESSAGE_HEADER: usize = 4;

/// The most records without data in a row. A server sends a few tickets at once; whoever sends more wants to keep us busy.
const MOST_IN_A_ROW: u8 = 32;

/// What a record without data says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that changes anything.
    Nothing,
    /// The peer sends no more.
    Closed,
}

/// Reads them as they come, in pieces where a record was.
#[derive(Debug)]
pub(super) struct Messages {
    version: Version,
    direction: Direction,
    in_a_row: u8,
    alert: Option<u8>,
    header: [u8; MESSAGE_HEADER],
    of_header: usize,
    skip: usize,
}

impl Messages {
    /// Of a connection that was taken from, or made to, the peer.
    pub(super) fn new(version: Version, direction: Direction) -> Self {
        Self {
            version,
            direction,
            in_a_row: 0,
            alert: None,
            header: [0; MESSAGE_HEADER],
            of_header: 0,
            skip: 0,
        }
    }

    /// Data have come.
    pub(super) fn data(&mut self) {
        self.in_a_row = 0;
    }

    /// A record that is not data, or has none, has come.
    ///
    /// # Errors
    /// Why the connection cannot go on.
    pub(super) fn take(&mut self, kind: u8, bytes: &[u8]) -> Result<Said, Ended> {
        self.in_a_row += 1;
        if self.in_a_row > MOST_IN_A_ROW {
            return Err(Ended::Unexpected);
        }
        match kind {
            DATA => Ok(Said::Nothing),
            ALERT => self.alert(bytes),
            HANDSHAKE => self.handshake(bytes),
            _ => Err(Ended::Unexpected),
        }
    }

    fn alert(&mut self, bytes: &[u8]) -> Result<Said, Ended> {
        for byte in bytes {
            let Some(level) = self.alert.take() else {
                self.alert = Some(*byte);
                continue;
            };
            match [level, *byte] {
                [_, 0] => return Ok(Said::Closed),
                [_, USER_CANCELED] => {}
                [WARNING, _] if self.version == Version::Tls12 => {}
                _ => return Err(Ended::Alert),
            }
        }
        Ok(Said::Nothing)
    }

    fn handshake(&mut self, mut bytes: &[u8]) -> Result<Said, Ended> {
        while let [first, rest @ ..] = bytes {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.of_header] = *first;
            self.of_header += 1;
            bytes = rest;
            if self.of_header < MESSAGE_HEADER {
                continue;
            }
            self.of_header = 0;
            let [kind, high, middle, low] = self.header;
            self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            match (kind, self.version, self.direction) {
                // One that comes so late is lost: the next connection may have to do without.
                (NEW_SESSION_TICKET, Version::Tls13, Direction::Outbound) => {}
                // "Ignored" is one of the answers that RFC 5246 gives, in section 7.4.1.1.
                (HELLO_REQUEST, Version::Tls12, Direction::Outbound) => {}
                (KEY_UPDATE, Version::Tls13, _) => return Err(Ended::KeyUpdate),
                _ => return Err(Ended::Unexpected),
            }
        }
        Ok(Said::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_between_data() {
        use {Direction::*, Version::*};
        let ticket: &[u8] = &[4, 0, 0, 3, 1, 2, 3];
        let key_update: &[u8] = &[24, 0, 0, 1, 0];
        let hello_request: &[u8] = &[0, 0, 0, 0];
        for (version, direction, kind, bytes, said) in [
            (Tls13, Outbound, ALERT, &CLOSE_NOTIFY[..], Ok(Said::Closed)),
            (Tls12, Inbound, ALERT, &CLOSE_NOTIFY, Ok(Said::Closed)),
            (Tls13, Inbound, ALERT, &[1, 90, 1, 0], Ok(Said::Closed)),
            (Tls13, Inbound, ALERT, &[2, 40], Err(Ended::Alert)),
            (Tls13, Inbound, ALERT, &[1, 100], Err(Ended::Alert)),
            (Tls12, Inbound, ALERT, &[1, 100], Ok(Said::Nothing)),
            (Tls12, Inbound, ALERT, &[2, 20], Err(Ended::Alert)),
            (Tls13, Outbound, HANDSHAKE, ticket, Ok(Said::Nothing)),
            (Tls13, Inbound, HANDSHAKE, ticket, Err(Ended::Unexpected)),
            (Tls12, Outbound, HANDSHAKE, ticket, Err(Ended::Unexpected)),
            (Tls13, Outbound, HANDSHAKE, key_update, Err(Ended::KeyUpdate)),
            (Tls13, Inbound, HANDSHAKE, key_update, Err(Ended::KeyUpdate)),
            (Tls12, Inbound, HANDSHAKE, key_update, Err(Ended::Unexpected)),
            (Tls12, Outbound, HANDSHAKE, hello_request, Ok(Said::Nothing)),
            (Tls13, Outbound, HANDSHAKE, hello_request, Err(Ended::Unexpected)),
            (Tls13, Outbound, DATA, &[], Ok(Said::Nothing)),
            (Tls13, Outbound, 20, &[1], Err(Ended::Unexpected)),
        ] {
            let mut whole = Messages::new(version, direction);
            assert_eq!(
                whole.take(kind, bytes),
                said,
                "{version:?} {direction:?} {kind} {bytes:?}"
            );
            // The same in pieces.
            let mut messages = Messages::new(version, direction);
            let pieces = bytes.chunks(1).map(|piece| messages.take(kind, piece));
            let last = pieces.fold(None, |before, said| match before {
                Some(Err(_) | Ok(Said::Closed)) => before,
                _ => Some(said),
            });
            if !bytes.is_empty() {
                assert_eq!(last, Some(said), "in pieces: {kind} {bytes:?}");
            }
        }
    }

    #[test]
    fn tickets_without_end_are_not_read() {
        let mut messages = Messages::new(Version::Tls13, Direction::Outbound);
        let ticket = [4, 0, 0, 1, 9];
        for _ in 0..MOST_IN_A_ROW {
            assert_eq!(messages.take(HANDSHAKE, &ticket), Ok(Said::Nothing));
        }
        assert_eq!(messages.take(HANDSHAKE, &ticket), Err(Ended::Unexpected));
        messages.data();
        assert_eq!(messages.take(HANDSHAKE, &ticket), Ok(Said::Nothing));
    }
}
