//! A sidecar's own pages, which it serves inside its pod only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use super::Namespace;
use super::kubectl::spawn;

/// A way to the pages of one pod's port.
pub struct Sidecar {
    forward: Child,
    port: u16,
}

impl Sidecar {
    /// The administration pages of a pod's sidecar.
    #[must_use]
    pub fn of(namespace: &Namespace, pod: &str) -> Self {
        Self::port(&namespace.name, &format!("pod/{pod}"), 15000)
    }

    /// The pages that a pod serves on a port.
    #[must_use]
    pub fn port(namespace: &str, what: &str, port: u16) -> Self {
        let mut forward = spawn(&["--namespace", namespace, "port-forward", what, &format!(":{port}")]);
        let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.ok()?;
                let rest = line.strip_prefix("Forwarding from 127.0.0.1:")?;
                rest.split(' ').next()?.parse().ok()
            })
            .unwrap_or_else(|| panic!("no port of {namespace}/{what} could be forwarded"));
        // It writes a line for each connection, and must not block on them.
        std::thread::spawn(move || lines.for_each(drop));
        Self { forward, port }
    }

    /// A page.
    ///
    /// # Errors
    /// When there is no answer, or it is not a success.
    pub fn page(&self, path: &str) -> Result<String, String> {
        let answer = self.fetch(path).map_err(|error| error.to_string())?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| format!("no answer: {answer}"))?;
        if head.starts_with("HTTP/1.1 200") {
            Ok(body.to_owned())
        } else {
            Err(answer)
        }
    }

    fn fetch(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The DestinationRule under which a Service's port is called, and its mode; `None` while it is automatic.
    ///
    /// # Errors
    /// When the page cannot be had, or the Service was not called yet.
    pub fn rule_of(&self, host: &str, port: u16) -> Result<Option<(String, String)>, String> {
        let page: Value = serde_json::from_str(&self.page("/config_dump")?).map_err(|error| error.to_string())?;
        let cluster = format!("outbound|{port}||{host}");
        let mut all = page["discovery"]["destinations"].as_array().into_iter().flatten();
        let found = all.find(|entry| entry["destination"]["cluster"] == cluster.as_str());
        let tls = &found.ok_or_else(|| format!("{cluster} was not called"))?["destination"]["client_tls"];
        let text = |name: &str| tls[name].as_str().map(str::to_owned);
        Ok(text("rule").zip(text("mode")))
    }

    /// The certificate in use.
    ///
    /// # Errors
    /// When the page cannot be had, or shows none.
    pub fn leaf(&self) -> Result<Value, String> {
        let page: Value = serde_json::from_str(&self.page("/certs")?).map_err(|error| error.to_string())?;
        let leaf = page["certificates"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["kind"] == "leaf");
        leaf.cloned().ok_or_else(|| format!("no leaf in {page}"))
    }

    /// The serial number of the certificate in use, as [`super::Certificate::serial`] writes it.
    ///
    /// # Errors
    /// As [`Sidecar::leaf`].
    pub fn serial(&self) -> Result<String, String> {
        let leaf = self.leaf()?;
        let serial = leaf["serial"].as_str().ok_or("no serial number")?;
        Ok(serial.trim_start_matches('0').to_owned())
    }

    /// Waits until a certificate is in use.
    pub fn uses(&self, serial: &str, limit: Duration) {
        let what = format!("certificate {serial} is in use");
        super::until(&what, limit, || match self.serial() {
            Ok(now) if now == serial => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// The sum of a metric's samples that carry all of these labels; zero where there is none.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = self
            .page("/stats/prometheus")
            .or_else(|_| self.page("/metrics"))
            .unwrap();
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        page.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(sample, _)| sample.split('{').next() == Some(name))
            .filter(|(sample, _)| wanted.iter().all(|label| sample.contains(label)))
            .filter_map(|(_, value)| value.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.forward.kill();
        let _ = self.forward.wait();
    }
}
