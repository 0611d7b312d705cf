//! Why capture failed, in words that say what to do, and the exit status of each.

/// What was being done when the kernel answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Opening the netlink socket and the first question.
    Open,
    /// Reading rules.
    Read,
    /// Writing rules.
    Write,
    /// Giving `lo` an address.
    Address,
}

/// Why the rules are not in force, or not proven to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not allowed to.
    #[error(
        "the capability NET_ADMIN is missing ({detail}): the init container needs `runAsUser: 0` and \
         `capabilities: {{add: [NET_ADMIN, NET_RAW]}}` in its securityContext, which a namespace with the pod \
         security level `baseline` or `restricted` refuses"
    )]
    Capability {
        /// How it showed.
        detail: String,
    },
    /// The kernel lacks what is needed.
    #[error(
        "the kernel has no usable nf_tables ({detail}): it needs CONFIG_NF_TABLES, NF_TABLES_IPV4, NF_TABLES_IPV6, \
         NFT_NAT and NFT_REDIR, built in or as the modules nf_tables, nft_chain_nat and nft_redir loaded on the node \
         (`modprobe nft_chain_nat nft_redir`)"
    )]
    NoNfTables {
        /// What the kernel answered.
        detail: String,
    },
    /// Any other refusal.
    #[error("the kernel refused while {doing}: {detail}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// What it answered.
        detail: String,
    },
    /// The rules that were read back are not those that were written.
    #[error(
        "the rules in force differ from those written, so something else edits the table: {family}, chain {chain}: \
         written were `{wanted}`, found `{found}`"
    )]
    Differs {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The chain.
        chain: String,
        /// What was asked for.
        wanted: String,
        /// What the kernel holds.
        found: String,
    },
    /// A real connection did not arrive as it should.
    #[error(
        "the self-test failed: a connection to {destination} should have been redirected to port {port}, but {found}"
    )]
    NotRedirected {
        /// Where it was sent.
        destination: std::net::SocketAddr,
        /// Where it should have arrived.
        port: u16,
        /// What happened.
        found: String,
    },
    /// The two ports of the sidecar are one.
    #[error("--outbound-port and --inbound-port are both {0}; they must differ")]
    SamePort(u16),
}

impl Error {
    /// What a netlink error means at `stage`.
    pub(super) fn of_netlink(stage: Stage, error: &nlink::Error) -> Self {
        Self::of_errno(stage, error.errno(), error.to_string())
    }

    fn of_errno(stage: Stage, errno: Option<i32>, detail: String) -> Self {
        match (stage, errno) {
            (_, Some(libc::EPERM | libc::EACCES)) => Self::Capability { detail },
            // Without nf_tables a single message is answered by EINVAL, a batch by EOPNOTSUPP; without netfilter
            // netlink there is no such socket; a missing chain type or expression is ENOENT.
            (Stage::Open, Some(libc::EINVAL))
            | (
                Stage::Open | Stage::Write,
                Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::ENOENT),
            ) => Self::NoNfTables { detail },
            _ => Self::Kernel {
                doing: match stage {
                    Stage::Open => "opening nf_tables",
                    Stage::Read => "reading the rules",
                    Stage::Write => "writing the rules",
                    Stage::Address => "adding ::6/128 to lo",
                },
                detail,
            },
        }
    }

    /// The exit status of the process: 2 for flags, 3 for a capability, 4 for the kernel's features, 5 for another
    /// refusal, 6 for rules that differ, 7 for a failed self-test.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::SamePort(_) => 2,
            Self::Capability { .. } => 3,
            Self::NoNfTables { .. } => 4,
            Self::Kernel { .. } => 5,
            Self::Differs { .. } => 6,
            Self::NotRedirected { .. } => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_answers_is_explained() {
        for (stage, errno, status, says) in [
            (Stage::Open, libc::EPERM, 3, "NET_ADMIN"),
            (Stage::Write, libc::EPERM, 3, "runAsUser: 0"),
            (Stage::Open, libc::EPROTONOSUPPORT, 4, "CONFIG_NF_TABLES"),
            (Stage::Open, libc::EINVAL, 4, "modprobe"),
            (Stage::Write, libc::EOPNOTSUPP, 4, "nft_redir"),
            (Stage::Write, libc::ENOENT, 4, "nft_chain_nat"),
            (Stage::Write, libc::EINVAL, 5, "writing the rules"),
            (Stage::Read, libc::ENOENT, 5, "reading the rules"),
            (Stage::Address, libc::ENODEV, 5, "::6/128"),
        ] {
            let error = Error::of_errno(stage, Some(errno), "answer".to_owned());
            assert_eq!(error.exit_status(), status, "{stage:?} {errno}");
            let shown = error.to_string();
            assert!(shown.contains(says) && shown.contains("answer"), "{shown}");
        }
    }
}
