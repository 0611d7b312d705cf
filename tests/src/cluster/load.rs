//! A pod that calls without a pause, and the account that it gives at its end.

use std::io::Read;
use std::process::Child;
use std::time::Duration;

use super::Namespace;
use super::kubectl::spawn;

/// A running tool whose output is kept.
pub struct Load<'a> {
    namespace: &'a Namespace,
    pod: String,
    logs: Child,
}

impl<'a> Load<'a> {
    /// Follows a pod that runs `bookshop get` or `bookshop tcp` without end.
    #[must_use]
    pub fn follow(namespace: &'a Namespace, pod: &str) -> Self {
        namespace.ready(pod, super::START);
        let logs = spawn(&["--namespace", &namespace.name, "logs", "--follow", pod, "-c", "app"]);
        Self {
            namespace,
            pod: pod.to_owned(),
            logs,
        }
    }

    /// Ends the tool, which must still run, and gives its summary's numbers by name, after every line before it.
    pub fn end(mut self) -> Account {
        let phase = self.namespace.get("pod", &self.pod).unwrap()["status"]["phase"].clone();
        assert_eq!(
            phase,
            "Running",
            "{} has ended too early:\n{}",
            self.pod,
            self.namespace.shown()
        );
        let grace = "--timeout=60s";
        self.namespace.must(&["delete", "pod", &self.pod, grace]);
        let mut out = String::new();
        self.logs.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let _ = self.logs.wait();
        let last = out.lines().last().unwrap_or_default().to_owned();
        assert!(
            last.starts_with("requests ") || last.starts_with("lines "),
            "{} gave no account of itself:\n{out}",
            self.pod
        );
        Account {
            pod: self.pod.clone(),
            out,
        }
    }
}

/// Ends an HTTP load on new connections, one on kept ones, and a raw TCP stream, of which nothing may have failed in `time`.
pub fn unharmed(loads: [Load<'_>; 3], requests_per_second: u64, time: Duration) {
    let [http, kept, tcp] = loads.map(Load::end);
    http.without("failed", "requests", requests_per_second, time);
    kept.without("failed", "requests", requests_per_second, time);
    tcp.without("cuts", "lines", 5, time);
    assert_eq!(tcp.number("streams"), 1, "one raw TCP stream through all of it");
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let _ = self.logs.kill();
        let _ = self.logs.wait();
    }
}

/// What a tool said of its run.
#[derive(Debug)]
pub struct Account {
    pod: String,
    out: String,
}

impl Account {
    /// A number of the summary's line, as `requests 10 failed 0 connections 1` has three.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        let mut words = self.out.lines().last().unwrap_or_default().split(' ');
        let number = words.by_ref().find(|word| *word == name).and_then(|_| words.next());
        let number = number.and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{} said no {name}:\n{}", self.pod, self.out))
    }

    /// The number must be zero, after at least `per_second` calls in each second of `time`.
    pub fn without(&self, failures: &str, calls: &str, per_second: u64, time: Duration) {
        assert_eq!(self.number(failures), 0, "{}:\n{}", self.pod, self.out);
        let (made, least) = (self.number(calls), per_second * time.as_secs());
        assert!(
            made >= least,
            "{} made {made} {calls}, expected {least} at least",
            self.pod
        );
    }
}
