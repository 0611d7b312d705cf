//! Network namespaces: what runs in them, and what removes those that a killed run left.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::thread;

/// The uid and gid that the redirect rules let pass.
const PROXY: &str = "1337";

/// Whether the kernel has IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// The IPv6 address that a pod of an IPv4 address has too.
pub(crate) fn six(v4: &str) -> String {
    format!("fd77::{}", v4.rsplit('.').next().unwrap())
}

/// Runs on a thread of its own inside a namespace; sockets that it makes stay there.
pub(crate) fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::spawn(move || {
        // SAFETY: a plain system call on an open descriptor; it concerns this thread alone.
        assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        work()
    })
    .join()
    .unwrap()
}

/// A program in a namespace, which ends when the thread that started it does.
pub(crate) fn within(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", namespace, "setpriv", "--pdeathsig", "KILL", "--"])
        .arg(program);
    command
}

/// As [`within`], as the user whom the redirect rules let pass.
pub(crate) fn as_proxy(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args([
        "netns",
        "exec",
        namespace,
        "setpriv",
        "--reuid",
        PROXY,
        "--regid",
        PROXY,
        "--clear-groups",
    ]);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Deletes what a run left that was killed: namespaces and folders named after a process that is gone.
pub(crate) fn remove_orphans() {
    static ONCE: OnceLock<()> = OnceLock::new();
    let orphan = |name: &str| {
        let pid = name
            .strip_prefix("pinnace-test-")
            .and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    ONCE.get_or_init(|| {
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(orphan) {
                let _ = Command::new("ip")
                    .args(["netns", "delete"])
                    .arg(entry.file_name())
                    .output();
            }
        }
        for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(orphan) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    });
}

pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", shown(&output));
}

/// As [`ip`], where the kernel has IPv6.
pub(crate) fn ip6(arguments: &[&str]) {
    if has_ipv6() {
        ip(arguments);
    }
}

/// What a command printed.
pub(crate) fn shown(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
