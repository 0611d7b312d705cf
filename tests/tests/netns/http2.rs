//! HTTP/2 by hand: a client's connection and an application, as the h2 crate speaks it, so that a test decides about each
//! stream and each reset.

use std::future::{Future, poll_fn};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::pod::Pod;

/// How long a test may take altogether.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test's asynchronous part.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = Runtime::new().unwrap();
    let result = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    // What still waits for a connection in a namespace is given up.
    runtime.shutdown_background();
    result.expect("the test hangs")
}

/// Connects as the pod's application does.
pub(crate) fn connect(pod: &Pod, to: &str) -> TcpStream {
    let stream = pod.connect(to);
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// Listens on a port of the pod.
pub(crate) fn listen(pod: &Pod, port: u16) -> TcpListener {
    let listener = pod.listen(port);
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

/// Begins an HTTP/2 connection with prior knowledge; what comes of it is the task's result.
pub(crate) async fn client(pod: &Pod, to: &str) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let (sender, connection) = h2::client::handshake(connect(pod, to)).await.unwrap();
    (sender, tokio::spawn(connection))
}

/// Begins a request to the Service `server`; its body is for the caller to send.
pub(crate) async fn begin(
    sender: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
    sender.send_request(request, false).unwrap()
}

/// A POST to the Service `server`.
pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://server{path}")).body(()).unwrap()
}

/// Sends all of a body as there is room for it.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(h2::Reason::STREAM_CLOSED.into()),
        };
        let chunk = data.split_to(room.min(data.len()));
        stream.send_data(chunk, last && data.is_empty())?;
    }
    Ok(())
}

/// Reads a body to its end, with the trailers.
pub(crate) async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

/// An application that serves each request of each connection with `work`, which is told the number of the request.
pub(crate) fn serve<F, R>(pod: &Pod, port: u16, work: F)
where
    F: Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = listen(pod, port);
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                continue;
            };
            number += 1000;
            let (mut number, work) = (number, work.clone());
            tokio::spawn(async move {
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(work(number, request, respond));
                    number += 1;
                }
            });
        }
    });
}

/// Answers with the request's head as text, and the body after it; the request's trailers are the answer's.
pub(crate) async fn echo(_: usize, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let mut seen = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        seen += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let without_body = head.method == http::Method::HEAD;
    let Ok(mut answer) = respond.send_response(Response::new(()), without_body) else {
        return;
    };
    if without_body || send(&mut answer, seen.into(), false).await.is_err() {
        return;
    }
    // In both directions at once.
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        if send(&mut answer, data, false).await.is_err() {
            return;
        }
    }
    let _ = match body.trailers().await {
        Ok(Some(trailers)) => answer.send_trailers(trailers),
        _ => answer.send_data(Bytes::new(), true),
    };
}
