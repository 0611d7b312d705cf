//! An external authorizer, as Istio's sample `extauthz` behaves: it allows what has the header `x-ext-authz: allow`, or else
//! callers of the service account `client`, and tells what it was asked; here over gRPC and HTTP, and bent by further headers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::ext_authz::v3::pb::{
    Authorization, AuthorizationServer, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue,
    HeaderValueOption, HttpResponse, HttpStatus, OkHttpResponse, QueryParameter,
};
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::google::rpc;
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

use super::http::Connection;
use super::http2::listen;
use super::over_tcp::serve;
use super::pod::Pod;

/// How long an authorizer thinks that is asked to.
pub(crate) const THINKING: Duration = Duration::from_secs(30);

/// An authorizer that serves gRPC on 9000 and HTTP on 8000 of a pod.
#[derive(Clone, Default)]
pub(crate) struct Authorizer {
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Authorizer {
    /// Serves; inside of a runtime.
    pub(crate) fn serve(pod: &Pod) -> Self {
        let authorizer = Self::default();
        let http = authorizer.clone();
        serve(pod, 8000, move |stream| http.over_http(Connection::new(stream)));
        let server = AuthorizationServer::new(authorizer.clone());
        let incoming = TcpListenerStream::new(listen(pod, 9000));
        tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming(incoming)
                .await
        });
        authorizer
    }

    fn note(&self, asked: Value) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn over_http(&self, mut connection: Connection<std::net::TcpStream>) {
        while let Ok(request) = connection.request() {
            let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
            self.note(json!({"start": request.start, "head": request.head, "body": request.text()}));
            let (status, more) = match header("x-ext-authz").as_str() {
                "allow" => ("200 OK", "x-user: ann\r\nx-envoy-auth-headers-to-remove: x-secret\r\n"),
                "fail" => ("500 Internal Server Error", ""),
                "think" => {
                    std::thread::sleep(THINKING);
                    ("200 OK", "")
                }
                "login" => ("302 Found", "location: /login\r\nx-user: nobody\r\n"),
                _ => ("403 Forbidden", "x-why: no\r\n"),
            };
            let body = if status.starts_with("200") {
                ""
            } else {
                "denied by ext_authz"
            };
            let length = body.len();
            connection.send(format!(
                "HTTP/1.1 {status}\r\n{more}x-ext-authz-check-result: {status}\r\ncontent-length: {length}\r\n\r\n{body}"
            ));
        }
    }
}

fn option(key: &str, value: &str, append: bool) -> HeaderValueOption {
    #[allow(deprecated, reason = "what most authorizers say")]
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        append: append.then_some(BoolValue { value: true }),
        ..HeaderValueOption::default()
    }
}

fn answer(code: Code, http_response: HttpResponse) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status {
            code: code.into(),
            ..rpc::Status::default()
        }),
        http_response: Some(http_response),
        ..CheckResponse::default()
    }
}

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let source = attributes.source.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http);
        self.note(json!({
            "source": source.principal,
            "destination": attributes.destination.unwrap_or_default().principal,
            "sni": attributes.tls_session.unwrap_or_default().sni,
            "http": http.as_ref().map(|http| json!({
                "method": http.method, "path": http.path, "host": http.host, "protocol": http.protocol,
                "headers": http.headers, "body": http.body, "raw": http.raw_body.len(), "size": http.size,
            })),
        }));
        let word = http.as_ref().and_then(|http| http.headers.get("x-ext-authz"));
        let known = source.principal.ends_with("/sa/client");
        let allowed = OkHttpResponse {
            headers: vec![option("x-user", "ann", false), option("x-groups", "staff", true)],
            headers_to_remove: vec!["x-secret".to_owned(), "host".to_owned()],
            response_headers_to_add: vec![option("x-checked", "yes", false)],
            query_parameters_to_set: vec![QueryParameter {
                key: "checked".to_owned(),
                value: "yes".to_owned(),
            }],
            query_parameters_to_remove: vec!["secret".to_owned()],
            ..OkHttpResponse::default()
        };
        let denied = DeniedHttpResponse {
            status: Some(HttpStatus { code: 401 }),
            headers: vec![option("x-why", "no", false)],
            body: "denied by ext_authz".to_owned(),
        };
        match word.map(String::as_str) {
            Some("allow") => {}
            None if known => {}
            Some("fail") => return Err(Status::unavailable("not today")),
            Some("think") => tokio::time::sleep(THINKING).await,
            Some("bend") => {
                let bad = OkHttpResponse {
                    headers: vec![option("x user", "ann", false)],
                    ..OkHttpResponse::default()
                };
                return Ok(Response::new(answer(Code::Ok, HttpResponse::OkResponse(bad))));
            }
            _ => {
                return Ok(Response::new(answer(
                    Code::PermissionDenied,
                    HttpResponse::DeniedResponse(denied),
                )));
            }
        }
        Ok(Response::new(answer(Code::Ok, HttpResponse::OkResponse(allowed))))
    }
}
