//! `eval`: what the policies in files would decide, with the sidecar's own engine and without a cluster.

mod authz;
mod manifests;
mod request;
mod route;
mod tls;
mod workloads;

use std::path::PathBuf;

use clap::Subcommand;

use crate::arguments::Global;
use crate::failure::Failure;

/// What is evaluated.
#[derive(Debug, Subcommand)]
pub(crate) enum Eval {
    /// Which requests the policies in files let through.
    #[command(after_help = AUTHZ)]
    Authz(Authz),
    /// What calls between the workloads in files are: in the clear, under mutual TLS, or refused.
    #[command(after_help = TLS)]
    Tls(Tls),
    /// Where requests go by the VirtualServices and DestinationRules in files.
    #[command(after_help = ROUTE)]
    Route(Route),
}

/// See [`Eval::Authz`].
#[derive(Debug, clap::Args)]
pub(crate) struct Authz {
    /// Files of manifests, or folders of such files (.yaml, .yml, .json).
    #[arg(short, long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// The requests, one JSON object on each line; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
    /// The keys of a jwksUri, or of the issuer of a rule that has no keys of its own, as a file.
    #[arg(long, value_name = "URI=FILE", value_parser = key_file)]
    jwks_uri: Vec<(String, PathBuf)>,
    /// Answer as if the candidates of this set were in force (label policy.pinnace.dev/candidate).
    #[arg(long, value_name = "SET")]
    candidate: Option<String>,
}

/// See [`Eval::Tls`].
#[derive(Debug, clap::Args)]
pub(crate) struct Tls {
    /// Files of manifests, folders of such files (.yaml, .yml, .json), or - for standard input.
    #[arg(short, long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Answer as if the candidates of this set were in force (label policy.pinnace.dev/candidate).
    #[arg(long, value_name = "SET")]
    candidate: Option<String>,
    /// Only calls of this workload.
    #[arg(long, value_name = "[KIND/]NAME[.NAMESPACE]")]
    from: Vec<String>,
    /// Only calls to this workload.
    #[arg(long, value_name = "[KIND/]NAME[.NAMESPACE]")]
    to: Vec<String>,
}

/// See [`Eval::Route`].
#[derive(Debug, clap::Args)]
pub(crate) struct Route {
    /// Files of manifests, or folders of such files (.yaml, .yml, .json).
    #[arg(short, long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// The requests, one JSON object on each line; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
}

const ROUTE: &str = "Examples:
  pinnace eval route -f manifests/ --requests requests.jsonl -o json
  kubectl get vs,dr,svc,endpointslices,pods -A -o yaml > mesh.yaml && pinnace eval route -f mesh.yaml --requests -

A request, of which only what matters need be there:
  {\"id\": 1, \"protocol\": \"http\", \"source\": {\"namespace\": \"shop\", \"labels\": {\"app\": \"web\"}},
   \"host\": \"reviews\", \"port\": 9080, \"method\": \"GET\", \"path\": \"/api?x=y\", \"headers\": {\"x-a\": [\"1\", \"2\"]}}";

const TLS: &str = "Examples:
  pinnace eval tls -f manifests/
  pinnace eval tls -f manifests/ --to deployment/cart.shop -o json
  pinnace eval tls -f manifests/ --candidate go-strict
  kubectl get ns,deploy,sts,ds,svc,pa,dr,cm -A -o yaml | pinnace eval tls -f -";

const AUTHZ: &str = "Examples:
  pinnace eval authz -f policies/ --requests requests.jsonl -o json
  pinnace eval authz -f policies/ --requests requests.jsonl --candidate go-strict
  pinnace eval authz -f policy.yaml --requests - --jwks-uri https://keycloak/certs=keys.json

A request, of which only what matters need be there:
  {\"id\": 1, \"protocol\": \"http\", \"source\": {\"principal\": \"cluster.local/ns/a/sa/b\", \"ip\": \"10.0.0.1\", \"mtls\": true},
   \"destination\": {\"namespace\": \"shop\", \"labels\": {\"app\": \"cart\"}, \"port\": 8080},
   \"method\": \"GET\", \"path\": \"/api\", \"host\": \"cart.shop\", \"headers\": {\"x-a\": [\"1\", \"2\"]}, \"jwt\": null}";

fn key_file(text: &str) -> Result<(String, PathBuf), String> {
    // A URI may have a '=' itself.
    let (uri, file) = text.rsplit_once('=').ok_or("expected URI=FILE")?;
    Ok((uri.to_owned(), file.into()))
}

/// Runs the verb; the exit status.
pub(crate) fn run(global: &Global, what: &Eval) -> Result<u8, Failure> {
    match what {
        Eval::Authz(arguments) => authz::run(global, arguments),
        Eval::Tls(arguments) => tls::run(global, arguments),
        Eval::Route(arguments) => route::run(global, arguments),
    }
}
