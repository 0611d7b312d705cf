//! A client's ClientHello, read before anything is decided about its connection.

use bytes::BytesMut;
use rustls::server::{Accepted, Acceptor};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The most that a ClientHello may hold. Post-quantum key shares make them 2 KiB; a ticket adds a chain.
const MOST_BYTES: usize = 64 * 1024;

/// Reads a ClientHello; what was read is in `bytes`, which holds what was read before. An error inside says why it is none.
///
/// # Errors
/// That of the read.
pub async fn read(
    client: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
) -> io::Result<Result<Box<Accepted>, String>> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        while let Some(unfed) = bytes.get(fed..).filter(|unfed| !unfed.is_empty()) {
            fed += acceptor.read_tls(&mut &*unfed)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Ok(Box::new(accepted))),
                Ok(None) => {}
                Err((error, _alert)) => return Ok(Err(error.to_string())),
            }
        }
        if bytes.len() >= MOST_BYTES {
            return Ok(Err(format!("a ClientHello of more than {MOST_BYTES} bytes")));
        }
        if client.read_buf(bytes).await? == 0 {
            return Ok(Err("the client closed before its ClientHello".into()));
        }
    }
}
