//! A gRPC application and its client, with tonic on both sides: one service with a method of every kind, whose messages are
//! strings.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::http2::{connect, listen};
use super::pod::Pod;

type Codec = ProstCodec<String, String>;
type Answers = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// The server.
#[derive(Clone)]
struct Application;

impl Service<http::Request<Body>> for Application {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(match path.as_str() {
                "/test.Echo/Unary" => grpc.unary(service_fn(unary), request).await,
                "/test.Echo/Upload" => grpc.client_streaming(service_fn(upload), request).await,
                "/test.Echo/Download" => grpc.server_streaming(Download, request).await,
                "/test.Echo/Chat" => grpc.streaming(Chat, request).await,
                _ => Status::unimplemented(path).into_http(),
            })
        })
    }
}

/// What an error carries besides its code.
fn refusal(text: &str) -> Status {
    let mut status = Status::new(Code::FailedPrecondition, format!("{text}: 100 % no"));
    status
        .metadata_mut()
        .insert("x-detail", "in the trailers".parse().unwrap());
    status
}

/// Gives the word back with who asked; `fail` fails.
async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    let caller = request.metadata().get("x-forwarded-client-cert");
    let caller = caller.and_then(|it| it.to_str().ok()).unwrap_or("nobody").to_owned();
    match request.into_inner().as_str() {
        "fail" => Err(refusal("unary")),
        word => {
            let mut response = Response::new(format!("{word} from {caller}"));
            response.metadata_mut().insert("x-app", "echo".parse().unwrap());
            Ok(response)
        }
    }
}

/// Says how much came.
async fn upload(request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
    let mut messages = request.into_inner();
    let (mut count, mut bytes) = (0, 0);
    while let Some(message) = messages.message().await? {
        count += 1;
        bytes += message.len();
        if message == "fail" {
            return Err(refusal("upload"));
        }
    }
    Ok(Response::new(format!("{count} messages, {bytes} bytes")))
}

/// So many messages of so many bytes; those whose number is asked for badly fail after the first.
#[derive(Clone)]
struct Download;

impl tonic::server::ServerStreamingService<String> for Download {
    type Response = String;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        Box::pin(async move {
            let asked = request.into_inner();
            let numbers = asked
                .split_once(' ')
                .and_then(|(n, length)| Some((n.parse().ok()?, length.parse().ok()?)));
            let answers: Answers = match numbers {
                Some((n, length)) => {
                    let word = "x".repeat(length);
                    Box::pin(tokio_stream::iter((0..n).map(move |_: usize| Ok(word.clone()))))
                }
                None => Box::pin(tokio_stream::iter([Ok("first".to_owned()), Err(refusal("download"))])),
            };
            Ok(Response::new(answers))
        })
    }
}

/// Gives each word back as it comes; `fail` fails.
#[derive(Clone)]
struct Chat;

impl tonic::server::StreamingService<String> for Chat {
    type Response = String;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        Box::pin(async move {
            let answers = request.into_inner().map(|word| match word?.as_str() {
                "fail" => Err(refusal("chat")),
                word => Ok(word.to_uppercase()),
            });
            Ok(Response::new(Box::pin(answers) as Answers))
        })
    }
}

/// Starts the application on a port of a pod.
pub(crate) fn application(pod: &Pod, port: u16) {
    let connections = TcpListenerStream::new(listen(pod, port));
    let serving = tonic::transport::Server::builder().serve_with_incoming(Application, connections);
    tokio::spawn(serving);
}

/// A client in a pod, whose connections all go to one address.
#[derive(Clone)]
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    /// Connects; `authority` is what it believes to call.
    pub(crate) async fn new(pod: &Pod, to: &str, authority: &str) -> Self {
        let mut stream = Some(connect(pod, to));
        let connector = service_fn(move |_| {
            let stream = stream.take().map(TokioIo::new);
            async move { stream.ok_or_else(|| std::io::Error::other("the connection has ended")) }
        });
        let endpoint = Endpoint::from_shared(format!("http://{authority}")).unwrap();
        Self(tonic::client::Grpc::new(
            endpoint.connect_with_connector(connector).await.unwrap(),
        ))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unknown(error.to_string()))
    }

    pub(crate) async fn unary(&mut self, word: &str) -> Result<Response<String>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Echo/Unary");
        self.0
            .unary(Request::new(word.to_owned()), path, Codec::default())
            .await
    }

    pub(crate) async fn upload(&mut self, words: Vec<String>) -> Result<String, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Echo/Upload");
        let words = Request::new(tokio_stream::iter(words));
        let answer = self.0.client_streaming(words, path, Codec::default()).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn download(&mut self, asked: &str) -> Result<Streaming<String>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Echo/Download");
        let answer = self
            .0
            .server_streaming(Request::new(asked.to_owned()), path, Codec::default())
            .await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn chat(&mut self, words: ReceiverStream<String>) -> Result<Streaming<String>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.Echo/Chat");
        let answer = self.0.streaming(Request::new(words), path, Codec::default()).await?;
        Ok(answer.into_inner())
    }
}

/// Every kind of call, with trailers and errors; `caller` is whom the application must see.
pub(crate) async fn exchange(pod: &Pod, to: &str, caller: &str) {
    let mut client = Client::new(pod, to, "server").await;
    let answer = client.unary("word").await.unwrap();
    assert_eq!(answer.metadata().get("x-app").unwrap(), "echo");
    let answer = answer.into_inner();
    assert!(
        answer.starts_with("word from ") && answer.contains(caller),
        "{to}: {answer}"
    );
    let refused = |status: Status, what: &str| {
        assert_eq!(
            (status.code(), status.message()),
            (Code::FailedPrecondition, &*format!("{what}: 100 % no")),
            "{to}"
        );
        assert_eq!(status.metadata().get("x-detail").unwrap(), "in the trailers", "{to}");
    };
    refused(client.unary("fail").await.unwrap_err(), "unary");

    let words = vec!["x".repeat(10_000); 500];
    assert_eq!(
        client.upload(words).await.unwrap(),
        "500 messages, 5000000 bytes",
        "{to}"
    );
    refused(client.upload(vec!["fail".into()]).await.unwrap_err(), "upload");

    let mut answers = client.download("300 20000").await.unwrap();
    let mut bytes = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        bytes += answer.len();
    }
    assert_eq!(bytes, 6_000_000, "{to}");
    let mut answers = client.download("badly").await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "first");
    refused(answers.message().await.unwrap_err(), "download");

    // Each word is answered before the next is said.
    let (says, words) = tokio::sync::mpsc::channel(1);
    says.send("one".to_owned()).await.unwrap();
    let mut answers = client.chat(ReceiverStream::new(words)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "ONE", "{to}");
    for word in ["two", "three"] {
        says.send(word.to_owned()).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), word.to_uppercase(), "{to}");
    }
    says.send("fail".to_owned()).await.unwrap();
    refused(answers.message().await.unwrap_err(), "chat");
}
