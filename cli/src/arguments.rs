//! The command line: istioctl's verbs, names and short forms, so that habits carry over.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::eval::Eval;
use crate::commands::proxy_config::{clusters, endpoints, listeners, log};
use crate::failure::STATUSES;
use crate::output::Format;

/// All of it.
#[derive(Debug, Parser)]
#[command(
    name = "pinnace",
    version,
    about = "Asks a Pinnace service mesh: its live proxies and all replicas of its control plane",
    after_help = STATUSES,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The kubeconfig file; otherwise that of KUBECONFIG, or ~/.kube/config.
    #[arg(
        short = 'c',
        long,
        global = true,
        value_name = "FILE",
        env = "KUBECONFIG",
        hide_env = true
    )]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The namespace of names that have none.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The namespace of the control plane.
    #[arg(
        short = 'i',
        long = "istioNamespace",
        global = true,
        value_name = "NAME",
        env = "ISTIO_NAMESPACE",
        hide_env = true,
        default_value = "istio-system"
    )]
    pub(crate) system: String,
    /// How the answer is printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Ask this port, which is forwarded already, instead of going through the cluster.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) forwarded: Option<String>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Each live proxy: what it was sent and has acknowledged, by which operator, since when.
    ///
    /// All replicas of the operator are asked, and their answers merged.
    #[command(visible_alias = "ps", after_help = PROXY_STATUS)]
    ProxyStatus {
        /// Only these proxies: POD[.NAMESPACE], or the beginning of a name.
        proxy: Option<String>,
    },
    /// What is in force in a sidecar, read from the sidecar itself.
    #[command(visible_alias = "pc", after_help = PROXY_CONFIG, subcommand_required = true, arg_required_else_help = true)]
    ProxyConfig {
        #[command(subcommand)]
        what: ProxyConfig,
    },
    /// Whether resources in files are accepted, as the webhook would say, and without fields that nobody knows. Asks no cluster.
    #[command(visible_alias = "v", after_help = VALIDATE)]
    Validate {
        /// Files, folders with all in them (.yaml, .yml, .json), or - for standard input.
        #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., required = true)]
        files: Vec<PathBuf>,
    },
    /// Every field and annotation of Istio's in use that is refused, without effect or different here, and what to do about it.
    #[command(after_help = MIGRATE)]
    Migrate {
        /// Files, folders with all in them (.yaml, .yml, .json), or - for standard input.
        #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., required_unless_present = "cluster", conflicts_with = "cluster")]
        files: Vec<PathBuf>,
        /// Look at what is in the cluster.
        #[arg(long)]
        cluster: bool,
    },
    /// What the policies in files would decide; no cluster is needed.
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Eval {
        #[command(subcommand)]
        what: Eval,
    },
    /// The versions of this command, of the control plane's replicas, and of the proxies.
    #[command(after_help = VERSION)]
    Version {
        /// Ask the cluster too.
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
        remote: bool,
    },
}

/// The parts of a sidecar's configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyConfig {
    /// Where it may send connections and requests.
    #[command(visible_aliases = ["cluster", "c"], after_help = "Example:\n  pinnace proxy-config clusters deployment/web -n shop --port 80 -o yaml")]
    Clusters {
        #[command(flatten)]
        of: Workload,
        #[command(flatten)]
        filter: clusters::Filter,
    },
    /// What it takes connections for.
    #[command(visible_aliases = ["listener", "l"], after_help = "Example:\n  pinnace proxy-config listeners web-6f7d.shop --port 15006")]
    Listeners {
        #[command(flatten)]
        of: Workload,
        #[command(flatten)]
        filter: listeners::Filter,
    },
    /// The endpoints of its clusters.
    #[command(visible_aliases = ["endpoint", "ep"], after_help = "Example:\n  pinnace proxy-config endpoints deployment/web -n shop --cluster 'outbound|80||cart.shop.svc.cluster.local'")]
    Endpoints {
        #[command(flatten)]
        of: Workload,
        #[command(flatten)]
        filter: endpoints::Filter,
    },
    /// Its certificate and the roots that it trusts; never a key.
    #[command(visible_aliases = ["secrets", "s"], after_help = "Example:\n  pinnace proxy-config secret deployment/web -n shop -o json")]
    Secret {
        #[command(flatten)]
        of: Workload,
    },
    /// The policies in force on its ports, and the resources that decided.
    #[command(visible_aliases = ["policy", "p"], after_help = "Example:\n  pinnace proxy-config policies deployment/web -n shop")]
    Policies {
        #[command(flatten)]
        of: Workload,
    },
    /// Its log level; --level changes it at once.
    #[command(visible_alias = "o", after_help = log::EXAMPLES)]
    Log {
        #[command(flatten)]
        of: Workload,
        #[command(flatten)]
        change: log::Change,
    },
}

/// Which sidecar.
#[derive(Debug, Args)]
pub(crate) struct Workload {
    /// POD[.NAMESPACE], or TYPE/NAME[.NAMESPACE] with a type such as deployment, statefulset or service.
    #[arg(value_name = "[TYPE/]NAME[.NAMESPACE]", required_unless_present = "forwarded")]
    pub(crate) name: Option<String>,
}

const PROXY_STATUS: &str = "Examples:
  pinnace proxy-status
  pinnace proxy-status -n shop -o json
  pinnace ps web-6f7d.shop

SYNCED: what was sent last is in force. STALE: it is not acknowledged yet. REJECTED: the proxy refused it, and what was in
force before still is. NOT SENT: nothing was asked for.";

const PROXY_CONFIG: &str = "Examples:
  pinnace proxy-config clusters deployment/web -n shop
  pinnace pc secret web-6f7d.shop -o json
  pinnace pc log deployment/web -n shop --level debug";

const VALIDATE: &str = "Examples:
  pinnace validate -f policies/
  pinnace validate -f a.yaml b.yaml -o json
  helm template . | pinnace validate -f -

Ends with 1 if a resource is not accepted.";

const MIGRATE: &str = "Examples:
  pinnace migrate -f manifests/
  pinnace migrate --cluster
  pinnace migrate --cluster -n shop -o json
  helm template . | pinnace migrate -f -

Ends with 1 if there is something to do.";

const VERSION: &str = "Examples:
  pinnace version
  pinnace version --remote=false -o json";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_makes_sense() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn istioctls_words_are_taken() {
        for line in [
            "pinnace ps",
            "pinnace proxy-status web-1.shop -i mesh-system",
            "pinnace pc c web-1.shop",
            "pinnace proxy-config cluster deployment/web -n shop --fqdn cart.shop.svc.cluster.local --direction outbound",
            "pinnace pc listener web-1 --port 15006 --address 0.0.0.0 -o json",
            "pinnace pc ep web-1 --cluster outbound|80||a --status healthy",
            "pinnace pc secret web-1 -o yaml",
            "pinnace pc policies web-1",
            "pinnace pc log web-1 --level proxy::inbound:debug,h2:off",
            "pinnace pc log web-1 -r",
            "pinnace validate -f a.yaml b -o json",
            "pinnace v -f a.yaml -f - -n shop",
            "pinnace migrate -f a.yaml b/ -o json",
            "pinnace migrate --cluster -n shop",
            "pinnace version --remote=false -o short",
            "pinnace pc clusters --forwarded 127.0.0.1:15000",
            "pinnace eval authz -f a.yaml b/ --requests - -o json --jwks-uri https://i/keys?a=b=keys.json",
            "pinnace eval tls -f a.yaml b/ -o json --from web.shop --to deployment/cart",
        ] {
            let parsed = CommandLine::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        for line in [
            "pinnace",
            "pinnace validate",
            "pinnace migrate",
            "pinnace migrate -f a.yaml --cluster",
            "pinnace pc clusters",
            "pinnace pc clusters a -o xml",
        ] {
            assert!(CommandLine::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
