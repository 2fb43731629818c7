//! The endpoints for observers: metrics over HTTP (`--metrics`), and the status socket, which
//! `confdctl status` asks.
//!
//! They run on the control plane, and can hurt neither it nor the workers: the number of
//! connections is bounded, each has a deadline, and a request is short. Connections above the limit
//! wait in the kernel's queue. A failed accept is tried again; it does not end the daemon.
//!
//! Root and the daemon's group can connect to the status socket, by its file mode. A client sends
//! one line, `status`, and receives one JSON object.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::error::Error;
use super::facts::Facts;
use super::metrics::{Format, Metrics};
use crate::remedy::limit_or;

/// Connections to one endpoint at the same time.
const CONNECTIONS_MAX: usize = 16;

/// Time for a whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the header of an HTTP request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Memory for the header of an HTTP request; the least that hyper accepts.
const HEADER_BYTES_MAX: usize = 8_192;

/// The longest request to the status socket.
const LINE_BYTES_MAX: u64 = 64;

/// Pause after a failed accept: the cause, such as a lack of descriptors, is rarely gone at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Connections that the kernel queues.
const BACKLOG: i32 = 16;

/// File mode of the status socket: the owner and the group can connect.
const STATUS_MODE: u32 = 0o660;

/// The endpoints, bound but not yet serving.
#[derive(Debug, Default)]
pub(super) struct Observers {
    metrics: Option<std::net::TcpListener>,
    status: Option<StatusSocket>,
}

/// The status socket. Dropping it removes its file.
#[derive(Debug)]
struct StatusSocket {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Observers {
    /// Binds the endpoint for metrics if there is an address, and the status socket if there is a
    /// path. Without a status socket the daemon serves nevertheless, and logs a warning.
    ///
    /// # Errors
    ///
    /// The endpoint for metrics cannot be bound.
    pub(super) fn bind(metrics: Option<SocketAddr>, status: Option<&Path>) -> Result<Self, Error> {
        let metrics = metrics.map(bind_metrics).transpose()?;
        let status = status.and_then(|path| match bind_status(path) {
            Ok(listener) => Some(StatusSocket {
                path: path.to_owned(),
                listener,
            }),
            Err(error) => {
                warn!(
                    "Cannot create the status socket {}: {error}; confdctl status does not work",
                    path.display()
                );
                None
            }
        });
        Ok(Self { metrics, status })
    }

    /// Serves all endpoints. Does not return.
    pub(super) async fn serve(self, facts: Facts) -> Infallible {
        let metrics = async {
            match self.metrics.map(TcpListener::from_std) {
                Some(Ok(listener)) => serve_metrics(listener, facts.clone()).await,
                Some(Err(error)) => warn!("Cannot serve metrics: {error}"),
                None => {}
            }
            pending().await
        };
        let status = async {
            let socket = self.status.as_ref();
            let listener = socket.map(|socket| socket.listener.try_clone());
            match listener.map(|listener| listener.and_then(UnixListener::from_std)) {
                Some(Ok(listener)) => serve_status(listener, facts.clone()).await,
                Some(Err(error)) => warn!("Cannot serve the status socket: {error}"),
                None => {}
            }
            pending().await
        };
        tokio::select! {
            never = metrics => never,
            never = status => never,
        }
    }
}

fn bind_metrics(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        info!("Metrics at http://{}/metrics", listener.local_addr()?);
        Ok(listener)
    };
    bind().map_err(|error: io::Error| {
        let remedy = "use an address of this host and a free TCP port for --metrics";
        let remedy = limit_or(&error, remedy);
        Error::new(format!(
            "cannot serve metrics at {address}: {error}; {remedy}"
        ))
    })
}

/// Binds a socket that nobody can connect to before it has its mode.
fn bind_status(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    // The pid file is locked, so this is left from a daemon that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(STATUS_MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts connections, and runs `serve` for each with a deadline. Does not return.
async fn accept<C, A, S>(accept: impl Fn() -> A, serve: impl Fn(C) -> S)
where
    A: Future<Output = io::Result<C>>,
    S: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match accept().await {
            Ok(connection) => {
                let served = timeout(CONNECTION_TIMEOUT, serve(connection));
                tokio::spawn(async move {
                    let _ = served.await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve_metrics(listener: TcpListener, facts: Facts) {
    let metrics = Arc::new(Metrics::new(facts));
    let connection = || async { listener.accept().await.map(|(stream, _)| stream) };
    accept(connection, |stream: TcpStream| {
        let metrics = Arc::clone(&metrics);
        async move {
            let respond = |request| {
                let response = respond(&request, &metrics);
                async { Ok::<_, Infallible>(response) }
            };
            // An error is the client's: there is nobody to report it to.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEADER_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service_fn(respond))
                .await;
        }
    })
    .await;
}

/// The response to one HTTP request.
fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        let methods = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, methods);
        return response;
    }
    if request.uri().path() != "/metrics" {
        return text(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let mut response = Response::new(Full::from(metrics.text(format)));
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

async fn serve_status(listener: UnixListener, facts: Facts) {
    let connection = || async { listener.accept().await.map(|(stream, _)| stream) };
    accept(connection, |stream| {
        let facts = facts.clone();
        async move {
            // An error is the client's: there is nobody to report it to.
            let _ = answer_status(stream, &facts).await;
        }
    })
    .await;
}

/// Reads one line, and writes the reply to it.
async fn answer_status(mut stream: UnixStream, facts: &Facts) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    let mut reader = reader.take(LINE_BYTES_MAX);
    while !line.contains(&b'\n') && reader.read_buf(&mut line).await? > 0 {}
    let reply = match line.trim_ascii() {
        b"status" => facts.json(),
        _ => serde_json::json!({ "error": "unknown request; send the line: status" }),
    };
    writer.write_all(format!("{reply}\n").as_bytes()).await?;
    writer.shutdown().await
}
