//! The thread that writes lines, and the bounded queue to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// The most lines that wait.
const MOST_LINES: usize = 8 * 1024;

/// The most bytes that wait.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// How long a process that ends waits for its last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Message {
    Line(String),
    Open(Box<str>),
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// The queue's end at which lines come in.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

impl Writer {
    /// Starts the thread; it writes to standard output until it is told another file.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start() -> io::Result<Self> {
        let (queue, messages) = sync_channel(MOST_LINES);
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&messages, &shared))?;
        Ok(Self { queue, counts })
    }

    /// Queues a line without waiting; false if it is lost.
    pub fn send(&self, line: String) -> bool {
        let length = line.len();
        if self.counts.bytes.fetch_add(length, Ordering::Relaxed) + length <= MOST_BYTES
            && self.queue.try_send(Message::Line(line)).is_ok()
        {
            return true;
        }
        self.counts.bytes.fetch_sub(length, Ordering::Relaxed);
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// What comes after this goes to another file; an empty name is standard output.
    pub fn open(&self, file: &str) {
        if let Err(TrySendError::Full(message)) = self.queue.try_send(Message::Open(file.into())) {
            // Rare, and not on the data path: it may wait for room.
            let _ = self.queue.send(message);
        }
    }

    /// Lines that were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Waits until what is queued now is written, at most [`LAST_LINES`].
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(LAST_LINES);
        }
    }
}

enum Target {
    Output,
    Error,
    File(File),
    /// It could not be opened; lines are lost.
    Nowhere,
}

impl Target {
    fn open(name: &str) -> Self {
        match name {
            "" | "/dev/stdout" => Self::Output,
            "/dev/stderr" => Self::Error,
            path => match OpenOptions::new().append(true).create(true).open(path) {
                Ok(file) => Self::File(file),
                Err(error) => {
                    tracing::error!(file = path, %error, "the access log's file cannot be opened; its lines are lost");
                    Self::Nowhere
                }
            },
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            // The locks are those of the process's own log, so that no line is torn.
            Self::Output => {
                let mut output = io::stdout().lock();
                output.write_all(bytes)?;
                output.flush()
            }
            Self::Error => io::stderr().lock().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
            Self::Nowhere => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Writes what comes, as much at once as waits.
fn write(messages: &Receiver<Message>, counts: &Counts) {
    const AT_ONCE: usize = 64 * 1024;
    let mut target = Target::open("");
    let mut bytes = Vec::new();
    let mut lines = 0;
    let put = |target: &mut Target, bytes: &mut Vec<u8>, lines: &mut u64| {
        if !bytes.is_empty() && target.write(bytes).is_err() {
            counts.lost.fetch_add(*lines, Ordering::Relaxed);
        }
        bytes.clear();
        *lines = 0;
    };
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    bytes.extend_from_slice(line.as_bytes());
                    lines += 1;
                }
                Message::Open(file) => {
                    put(&mut target, &mut bytes, &mut lines);
                    target = Target::open(&file);
                }
                Message::Flush(done) => {
                    put(&mut target, &mut bytes, &mut lines);
                    let _ = done.try_send(());
                }
            }
            if bytes.len() >= AT_ONCE {
                put(&mut target, &mut bytes, &mut lines);
            }
            next = messages.try_recv().ok();
        }
        put(&mut target, &mut bytes, &mut lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_file_of_their_time_in_order() {
        let folder = std::env::temp_dir().join(format!("access-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, two) = (folder.join("one"), folder.join("two"));
        let writer = Writer::start().unwrap();
        writer.open(one.to_str().unwrap());
        assert!(writer.send("a\n".to_owned()) && writer.send("b\n".to_owned()));
        writer.open(two.to_str().unwrap());
        assert!(writer.send("c\n".to_owned()));
        writer.open("/nowhere/at/all");
        assert!(writer.send("lost\n".to_owned()));
        // A queue in order: the answer comes after everything before it.
        let (done, wait) = sync_channel(1);
        writer.queue.send(Message::Flush(done)).unwrap();
        wait.recv().unwrap();
        assert_eq!(std::fs::read_to_string(&one).unwrap(), "a\nb\n");
        assert_eq!(std::fs::read_to_string(&two).unwrap(), "c\n");
        assert_eq!(writer.lost(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        // Nobody takes from this queue.
        let (queue, messages) = sync_channel(2);
        let writer = Writer {
            queue,
            counts: Arc::new(Counts::default()),
        };
        assert!(writer.send("a".to_owned()) && writer.send("b".to_owned()));
        assert!(!writer.send("c".to_owned()));
        assert!(!writer.send("d".repeat(MOST_BYTES)));
        assert_eq!((writer.lost(), writer.counts.bytes.load(Ordering::Relaxed)), (2, 2));
        drop(messages);
    }
}
