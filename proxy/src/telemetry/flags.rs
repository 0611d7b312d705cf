//! Response flags: what became of a request or connection that did not go as it should, in Envoy's names and order.

use crate::refusals::Reason;
use std::fmt;

/// A set of response flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

macro_rules! flags {
    ($($constant:ident $name:literal $long:literal $doc:literal)*) => {
        flags!(@bits 0u32; $($constant $doc)*);

        /// Short and long names, in the order of the bits and of Envoy's output.
        const NAMES: &[(&str, &str)] = &[$(($name, $long)),*];
    };
    (@bits $bit:expr; $constant:ident $doc:literal $($rest:tt)*) => {
        impl Flags {
            #[doc = $doc]
            pub const $constant: Self = Self(1 << ($bit));
        }
        flags!(@bits $bit + 1; $($rest)*);
    };
    (@bits $bit:expr;) => {};
}

flags! {
    LH "LH" "FailedLocalHealthCheck" "The local service failed its health check."
    UH "UH" "NoHealthyUpstream" "The destination has no endpoint."
    UT "UT" "UpstreamRequestTimeout" "The request took longer than its timeout."
    LR "LR" "LocalReset" "The proxy reset the connection."
    UR "UR" "UpstreamRemoteReset" "The upstream reset the stream."
    UF "UF" "UpstreamConnectionFailure" "The upstream could not be connected to."
    UC "UC" "UpstreamConnectionTermination" "The upstream ended its connection."
    UO "UO" "UpstreamOverflow" "The upstream's connection pool is full."
    NR "NR" "NoRouteFound" "There is no route for the request, or none is allowed."
    DI "DI" "DelayInjected" "A fault's delay was injected."
    FI "FI" "FaultInjected" "A fault's abort was injected."
    RL "RL" "RateLimited" "The request was rate limited."
    UAEX "UAEX" "UnauthorizedExternalService" "An external authorizer denied the request."
    RLSE "RLSE" "RateLimitServiceError" "The rate limit service failed."
    DC "DC" "DownstreamConnectionTermination" "The client ended its connection."
    URX "URX" "UpstreamRetryLimitExceeded" "All attempts failed."
    SI "SI" "StreamIdleTimeout" "Nothing passed for too long."
    IH "IH" "InvalidEnvoyRequestHeaders" "A header has a value that is not accepted."
    DPE "DPE" "DownstreamProtocolError" "The client's HTTP is none."
    UMSDR "UMSDR" "UpstreamMaxStreamDurationReached" "The stream took longer than it may."
    RFCF "RFCF" "ResponseFromCacheFilter" "Answered from a cache."
    NFCF "NFCF" "NoFilterConfigFound" "A filter has no configuration."
    DT "DT" "DurationTimeout" "The connection lasted longer than it may."
    UPE "UPE" "UpstreamProtocolError" "The upstream's HTTP is none."
    NC "NC" "NoClusterFound" "What is called is not known: the route leads nowhere, or the control plane cannot be asked."
    OM "OM" "OverloadManager" "The proxy is overloaded."
    DF "DF" "DnsResolutionFailed" "The name was not resolved."
    DO "DO" "DropOverload" "Dropped for overload of the upstream."
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// The bits, for a key.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The flags of bits that [`Flags::bits`] gave.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set in Envoy's long names (`%RESPONSE_FLAGS_LONG%`).
    #[must_use]
    pub fn long(self) -> String {
        self.joined(|(_, long)| long)
    }

    fn joined(self, name: impl Fn(&(&'static str, &'static str)) -> &'static str) -> String {
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        let names: Vec<&str> = set.map(|(_, names)| name(names)).collect();
        if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(",")
        }
    }
}

impl fmt::Display for Flags {
    /// The set in Envoy's short names, separated by commas; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(|(short, _)| short))
    }
}

impl From<Reason> for Flags {
    /// The flag of a request that was refused for a reason.
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unknown | Reason::NoRoute | Reason::NotCaptured | Reason::NoPolicy | Reason::Plaintext => Self::NR,
            Reason::NoEndpoint => Self::UH,
            Reason::Unavailable | Reason::NoCluster => Self::NC,
            Reason::Unreachable | Reason::ServerHandshake | Reason::NoCertificate | Reason::DestinationRule => Self::UF,
            Reason::ClientHandshake | Reason::Malformed => Self::DPE,
            Reason::Limit => Self::OM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_envoy_does() {
        for (flags, short, long) in [
            (Flags::NONE, "-", "-"),
            (Flags::UF, "UF", "UpstreamConnectionFailure"),
            (
                Flags::URX.and(Flags::UF),
                "UF,URX",
                "UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
            ),
            (Flags::LH, "LH", "FailedLocalHealthCheck"),
            (Flags::DO, "DO", "DropOverload"),
        ] {
            assert_eq!((flags.to_string().as_str(), flags.long().as_str()), (short, long));
            assert_eq!(Flags::from_bits(flags.bits()), flags);
        }
        assert!(NAMES.len() < 32, "a key has 32 bits for them");
    }
    #[test]
    fn every_flag_is_explained() {
        for (short, long) in NAMES {
            assert!(
                include_str!("../../../docs/denials.md").contains(&format!("| `{short}` | `{long}` | ")),
                "docs/denials.md does not explain {short}"
            );
        }
    }
}
