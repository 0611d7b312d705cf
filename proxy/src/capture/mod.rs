//! `proxy capture`, the init container: writes the rules that send a pod's TCP connections, and its DNS where that is asked
//! for, through its sidecar, reads them back and tries them. It touches the tables named `pinnace` of its own network
//! namespace and the address `::6` on `lo`, nothing else, and running it again leaves the same rules.
//!
//! `flags` → `plan` (pure) → `netlink` (one transaction, then compared) → `selftest` (a real connection).

mod error;
mod flags;
mod netlink;
mod plan;
mod rules;
mod selftest;

use std::net::IpAddr;
use std::path::Path;

pub use error::Error;
pub use flags::{ALWAYS_EXCLUDED_INBOUND_PORTS, Flags, Interface, List, Selection};
pub use plan::plan;
pub use rules::{Action, Chain, Family, Hook, Match, Packet, Rule, TABLE, Table};

use netlink::Kernel;
use selftest::Outcome;

use crate::dns::{RESOLV_CONF, ResolvConf};

/// Bit of CAP_NET_ADMIN in the kernel's masks (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// What the exit statuses of `proxy capture` mean, for its help.
pub const EXIT_STATUSES: &str = "Exit status:
  0  the rules are in force
  2  a flag is not understood
  3  the capability NET_ADMIN is missing
  4  the kernel has no usable nf_tables
  5  the kernel refused for another reason
  6  the rules read back differ from those written
  7  the self-test connection was not redirected";

/// Puts the rules in force, proves them and says so in the log; with `--dry-run`, prints them.
///
/// # Errors
/// The rules are not in force, or not proven; see [`Error::exit_status`].
pub async fn run(flags: &Flags) -> Result<(), Error> {
    if flags.outbound_port == flags.inbound_port {
        return Err(Error::SamePort(flags.outbound_port));
    }
    // Absent where the kernel was built without IPv6 or started with ipv6.disable=1.
    let ipv6 = Path::new("/proc/net/if_inet6").exists();
    let families = if ipv6 {
        &[Family::V4, Family::V6][..]
    } else {
        &[Family::V4]
    };
    let resolvers = resolvers(flags);
    let tables: Vec<_> = families.iter().map(|family| plan(flags, *family, &resolvers)).collect();
    if flags.dry_run {
        for table in &tables {
            print!("{table}");
        }
        return Ok(());
    }
    require_net_admin()?;

    let kernel = Kernel::open().await?;
    kernel.apply(&tables).await?;
    kernel.verify(&tables).await?;
    let rules: usize = tables.iter().flat_map(|t| &t.chains).map(|c| c.rules.len()).sum();
    tracing::info!(
        rules,
        tables = tables.len(),
        "the rules are in force, inbound and outbound, as read back"
    );

    if !ipv6 {
        tracing::warn!("the kernel has no IPv6: only IPv4 is captured");
    } else if !netlink::add_inbound_source_v6().await? {
        tracing::warn!("IPv6 is switched off on lo: inbound IPv6 connections cannot be handed to the application");
    }

    for table in &tables {
        let family = table.family.name();
        match selftest::outbound(flags, table).await? {
            Outcome::Redirected(to) => {
                tracing::info!(family, %to, port = flags.outbound_port, "a connection was redirected as it should be");
            }
            Outcome::Skipped(reason) => tracing::info!(family, reason, "no connection was tried"),
        }
        let Some(resolver) = resolvers.iter().find(|resolver| table.family.has(**resolver)) else {
            continue;
        };
        match selftest::dns(table, *resolver).await? {
            Outcome::Redirected(to) => tracing::info!(family, %to, "a DNS question was redirected as it should be"),
            Outcome::Skipped(reason) => tracing::info!(family, reason, "no DNS question was tried"),
        }
    }
    Ok(())
}

/// The pod's resolvers, where what it asks them is to be captured.
fn resolvers(flags: &Flags) -> Vec<IpAddr> {
    if !flags.redirect_dns {
        return Vec::new();
    }
    match ResolvConf::read() {
        Ok(found) if found.servers.is_empty() => {
            tracing::warn!("no resolver is known, so no DNS is captured: {RESOLV_CONF} names none");
            Vec::new()
        }
        Ok(found) => found.servers,
        Err(error) => {
            tracing::warn!(%error, "no resolver is known, so no DNS is captured: {RESOLV_CONF} cannot be read");
            Vec::new()
        }
    }
}

/// The kernel's own refusal (EPERM) would not say whether user or capability is at fault.
fn require_net_admin() -> Result<(), Error> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        // Without /proc the kernel's answer decides.
        return Ok(());
    };
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match effective {
        Some(mask) if mask & (1 << CAP_NET_ADMIN) == 0 => {
            // SAFETY: this call only reads the user id of the process and cannot fail.
            let uid = unsafe { libc::geteuid() };
            Err(Error::Capability {
                detail: format!("running as uid {uid} with capabilities {mask:#x}"),
            })
        }
        _ => Ok(()),
    }
}
