//! Commands with a limit on their time, and what they said.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take that does not say otherwise.
const LIMIT: Duration = Duration::from_secs(120);

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Whether its exit code was zero.
    pub good: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// The output of a success.
    ///
    /// # Errors
    /// What a failure said, on both streams.
    pub fn ok(self) -> Result<String, String> {
        if self.good { Ok(self.out) } else { Err(self.all()) }
    }

    /// Both streams.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err).trim_end().to_owned()
    }
}

/// Runs a command to its end; one that does not reach it within `limit` has failed.
#[must_use]
pub fn run(program: &str, arguments: &[&str], input: &str, limit: Duration) -> Said {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    // A command that fails early does not read its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Said {
                good: false,
                out: out.join().unwrap(),
                err: format!("{}did not end within {limit:?}", err.join().unwrap()),
            };
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Said {
        good: status.success(),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

fn drain(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs kubectl.
#[must_use]
pub fn kubectl(arguments: &[&str], input: &str) -> Said {
    run("kubectl", arguments, input, LIMIT)
}

/// Runs kubectl, which must succeed, and gives its output.
pub fn must(arguments: &[&str]) -> String {
    must_with(arguments, "")
}

/// Runs kubectl with an input; it must succeed.
pub fn must_with(arguments: &[&str], input: &str) -> String {
    let said = kubectl(arguments, input);
    assert!(said.good, "kubectl {}: {}", arguments.join(" "), said.all());
    said.out
}

/// Starts kubectl and leaves it running, with its output to be read; whoever starts it ends it.
#[must_use]
pub fn spawn(arguments: &[&str]) -> Child {
    Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("kubectl cannot be run: {error}"))
}
