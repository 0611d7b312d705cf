//! `bookshop ext-authz`: an external authorizer, which Istio's documentation of the action CUSTOM can be followed with: it
//! allows requests with `x-ext-authz: allow`, and over gRPC those without that header, and connections, that come from one
//! service account. Over gRPC it is asked as `envoy.service.auth.v3.Authorization/Check`.

use std::io;

use envoy_types::ext_authz::v3::pb::{
    Authorization, AuthorizationServer, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue,
    HeaderValueOption, HttpResponse, HttpStatus, HttpStatusCode, OkHttpResponse,
};
use envoy_types::pb::google::rpc;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;

use crate::lifecycle::{OnTerminate, phases, termination};
use crate::server::{self, Answer, Ends, Service};

const WORD: &str = "x-ext-authz";
const ALLOW: &str = "allow";
const RESULT: &str = "x-ext-authz-check-result";

/// What a caller is told that may not pass.
const DENIED: &str = "denied by ext_authz for not found header `x-ext-authz: allow` in the request";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The port to be asked on over HTTP
    #[arg(long, default_value_t = 8000)]
    http: u16,
    /// The port to be asked on over gRPC
    #[arg(long, default_value_t = 9000)]
    grpc: u16,
    /// The service account whose calls are allowed over gRPC where they have no word
    #[arg(long, default_value = "a")]
    allow_service_account: String,
}

/// Serves until asked to terminate.
///
/// # Errors
/// When a port cannot be had.
pub(crate) async fn run(arguments: Arguments) -> io::Result<()> {
    let http = server::listen(arguments.http).await?;
    let incoming = TcpListenerStream::new(server::listen(arguments.grpc).await?);
    let mut end = termination()?;
    let grpc = tonic::transport::Server::builder()
        .add_service(AuthorizationServer::new(OverGrpc {
            account: format!("/sa/{}", arguments.allow_service_account),
        }))
        .serve_with_incoming_shutdown(incoming, async move { end.recv().await });
    let http = async {
        server::http(http, OverHttp, phases(OnTerminate::Exit)?).await;
        Ok(())
    };
    tokio::try_join!(http, async { grpc.await.map_err(io::Error::other) })?;
    Ok(())
}

struct OverHttp;

impl Service for OverHttp {
    async fn answer(&self, request: Request<Incoming>, _: Ends) -> Answer {
        let allowed = request.headers().get(WORD).is_some_and(|word| word == ALLOW);
        let (status, result, text) = match allowed {
            true => (StatusCode::OK, "allowed", ""),
            false => (StatusCode::FORBIDDEN, "denied", DENIED),
        };
        let mut answer = server::text(status, text);
        answer
            .headers_mut()
            .insert(RESULT, hyper::header::HeaderValue::from_static(result));
        answer
    }
}

struct OverGrpc {
    /// How the principal ends whose calls are allowed.
    account: String,
}

#[tonic::async_trait]
impl Authorization for OverGrpc {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http);
        let word = http.as_ref().and_then(|http| http.headers.get(WORD));
        let allowed = match word {
            Some(word) => word == ALLOW,
            None => attributes
                .source
                .is_some_and(|source| source.principal.ends_with(&self.account)),
        };
        let (code, said) = match allowed {
            true => (
                Code::Ok,
                HttpResponse::OkResponse(OkHttpResponse {
                    headers: vec![result("allowed")],
                    ..OkHttpResponse::default()
                }),
            ),
            false => (
                Code::PermissionDenied,
                HttpResponse::DeniedResponse(DeniedHttpResponse {
                    status: Some(HttpStatus {
                        code: HttpStatusCode::Forbidden.into(),
                    }),
                    headers: vec![result("denied")],
                    body: DENIED.to_owned(),
                }),
            ),
        };
        Ok(tonic::Response::new(CheckResponse {
            status: Some(rpc::Status {
                code: code.into(),
                ..rpc::Status::default()
            }),
            http_response: Some(said),
            ..CheckResponse::default()
        }))
    }
}

fn result(value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: RESULT.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        ..HeaderValueOption::default()
    }
}
