//! A pod of a test: a namespace with an address.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::namespaces::{has_ipv6, inside, within};
use super::world::PATIENCE;

/// A pod: a namespace with an address, and the certificates of its service account.
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: &'static str,
    pub(crate) ip: Ipv4Addr,
    pub(crate) certificates: PathBuf,
}

impl Pod {
    /// Listens on a port of every address of the pod.
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        inside(&self.namespace, move || {
            let any = if has_ipv6() {
                Ipv6Addr::UNSPECIFIED.into()
            } else {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            };
            TcpListener::bind((any, port))
        })
        .unwrap()
    }

    /// Connects as the pod's application does.
    pub(crate) fn try_connect(&self, to: &str) -> io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = inside(&self.namespace, move || TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// As [`Pod::try_connect`], where it must succeed.
    pub(crate) fn connect(&self, to: &str) -> TcpStream {
        self.try_connect(to)
            .unwrap_or_else(|error| panic!("{} to {to}: {error}", self.name))
    }

    /// Status and text of a page of the pod's own sidecar, asked from within.
    pub(crate) fn page(&self, port: u16, path: &str) -> io::Result<(u16, String)> {
        self.ask("GET", port, path)
    }

    /// As [`Pod::page`], by another method.
    pub(crate) fn ask(&self, method: &str, port: u16, path: &str) -> io::Result<(u16, String)> {
        let mut stream = self.try_connect(&SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port).to_string())?;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        Ok((status, body.to_owned()))
    }

    /// A sample of the sidecar's metrics by the start of its line; 0 where there is none yet.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let (_, text) = self.page(15090, "/stats/prometheus").unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    /// A program in the pod's namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        within(&self.namespace, Path::new(program))
    }

    /// The serial number of the sidecar's certificate in use.
    pub(crate) fn serial(&self) -> String {
        let (_, text) = self.page(15000, "/certs").unwrap();
        let pages: serde_json::Value = serde_json::from_str(&text).unwrap();
        pages["certificates"][0]["serial"].as_str().unwrap().to_owned()
    }
}
