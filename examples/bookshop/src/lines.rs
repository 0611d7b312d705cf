//! Lines over a raw TCP stream, with a limit on their length: the stock service's protocol and the tools' echo.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Reads one line of at most `limit` bytes, its end included, and gives it without its end.
/// `None` means that the peer closed the stream between two lines.
///
/// # Errors
/// What the stream says; `InvalidData` for a line that is too long or not UTF-8; `UnexpectedEof` for half a line.
pub(crate) async fn read<R: AsyncBufRead + Unpin>(stream: &mut R, limit: u16) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(u64::from(limit)).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            let text = String::from_utf8(line);
            text.map(Some)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the line is not UTF-8"))
        }
        Some(_) if line.len() + 1 >= usize::from(limit) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the line is longer than {limit} bytes"),
        )),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the stream ended within a line",
        )),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    #[tokio::test]
    async fn reads_lines_up_to_the_limit() {
        type Expected = Result<Option<&'static str>, io::ErrorKind>;
        let rows: [(&[u8], Expected); 8] = [
            (b"", Ok(None)),
            (b"\n", Ok(Some(""))),
            (b"STOCK 0\n", Ok(Some("STOCK 0"))),
            (b"STOCK\r\nmore", Ok(Some("STOCK"))),
            (b"1234567\n", Ok(Some("1234567"))),
            (b"12345678\n", Err(io::ErrorKind::InvalidData)),
            (b"half", Err(io::ErrorKind::UnexpectedEof)),
            (b"\xff\n", Err(io::ErrorKind::InvalidData)),
        ];
        for (bytes, expected) in rows {
            let got = read(&mut BufReader::new(bytes), 8).await.map_err(|error| error.kind());
            assert_eq!(got, expected.map(|line| line.map(str::to_owned)), "{bytes:?}");
        }
    }
}
