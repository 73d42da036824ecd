//! The admin port: `/healthz` and `/metrics` over plain HTTP, on the loopback address unless configured otherwise.
//!
//! It tells and changes nothing, so it asks nobody who they are; what it tells is no secret but is not for the world.
//!
//! **Invariant**: a connection costs at most [`ADMIN_HEAD_MAX_BYTES`] and [`ADMIN_REQUEST_MAX`], and there are at most
//! [`ADMIN_CONNECTIONS_MAX`].

use bytes::Bytes;
use failback_model::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_MAX_BYTES, ADMIN_REQUEST_MAX};
use failback_model::{Code, Finding};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What the port tells. Calls are short.
pub trait Admin: Send + Sync + 'static {
    /// Whether the daemon does its work; else why not.
    fn health(&self) -> Result<(), String>;

    /// Metrics as Prometheus reads them.
    fn metrics(&self) -> String;
}

/// A bound admin port.
pub struct AdminServer(TcpListener);

impl AdminServer {
    /// Binds the port.
    pub async fn bind(address: SocketAddr) -> Result<Self, Finding> {
        let bound = TcpListener::bind(address).await;
        bound.map(Self).map_err(|error| {
            Finding::error(Code::StateFailed, format!("cannot listen on {address}: {error}"))
                .with_remedy("choose another address with 'admin', or \"off\"")
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until it is stopped.
    pub async fn run(self, admin: Arc<dyn Admin>, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.0.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&admin);
                    tokio::spawn(async move {
                        serve(stream, admin).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("the admin port cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// One request, one answer.
async fn serve(stream: TcpStream, admin: Arc<dyn Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(&request, &*admin)) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_REQUEST_MAX)
        .max_buf_size(ADMIN_HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that asks badly or leaves early is its own affair.
    let _ = tokio::time::timeout(ADMIN_REQUEST_MAX, connection).await;
}

fn answer(request: &Request<Incoming>, admin: &dyn Admin) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/healthz" => match admin.health() {
            Ok(()) => text(StatusCode::OK, "ok\n".into()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => text(StatusCode::OK, admin.metrics()),
        _ => text(StatusCode::NOT_FOUND, "/healthz or /metrics\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[derive(Default)]
    struct Sick(AtomicBool);

    impl Admin for Sick {
        fn health(&self) -> Result<(), String> {
            if self.0.load(Ordering::Relaxed) { Err("draining".into()) } else { Ok(()) }
        }

        fn metrics(&self) -> String {
            "failback_sessions 1\n".into()
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may hang up before it has taken all of it.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    }

    #[tokio::test]
    async fn it_tells_health_and_metrics_and_nothing_else() {
        let server = AdminServer::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = server.address().expect("it is bound");
        let (admin, stop) = (Arc::<Sick>::default(), CancellationToken::new());
        let running = tokio::spawn(server.run(Arc::clone(&admin) as _, stop.clone()));
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let well = ask(address, &get("/healthz")).await;
        assert!(well.starts_with("HTTP/1.1 200 ") && well.ends_with("\r\n\r\nok\n"), "{well}");
        admin.0.store(true, Ordering::Relaxed);
        let sick = ask(address, &get("/healthz?x=1")).await;
        assert!(sick.starts_with("HTTP/1.1 503 ") && sick.ends_with("draining\n"), "{sick}");
        assert!(ask(address, &get("/metrics")).await.ends_with("failback_sessions 1\n"));
        assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404 "));
        let posted = ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
        assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * ADMIN_HEAD_MAX_BYTES));
        assert!(ask(address, &long).await.starts_with("HTTP/1.1 431 "));
        assert!(ask(address, "\u{1}\u{2}\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
        stop.cancel();
        running.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_given_up() {
        let (server, silent) =
            (TcpListener::bind("127.0.0.1:0").await.expect("a port"), Arc::<Sick>::default());
        let client = TcpStream::connect(server.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = server.accept().await.expect("a connection");
        tokio::time::pause();
        // Ends by its own time limit, which the paused clock jumps to.
        serve(stream, silent).await;
        drop(client);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = AdminServer::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = first.address().expect("it is bound");
        let finding = AdminServer::bind(address).await.err().expect("it is taken");
        assert!(finding.evidence.contains(&address.to_string()), "{finding:?}");
    }
}
