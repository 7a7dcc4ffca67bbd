//! The same two origins for proxies that speak HTTP/2 to endpoints: without TLS, by prior knowledge.

use std::convert::Infallible;
use std::net::TcpListener;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::Outcome;
use crate::origin::SIDES;

/// Blocks the thread.
pub fn serve(listeners: [TcpListener; 2]) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        let [blue, green] = listeners;
        tokio::try_join!(listen(blue, SIDES[0]), listen(green, SIDES[1])).map(|_| ())
    })
}

async fn listen(listener: TcpListener, side: &'static str) -> Outcome<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = service_fn(move |_: hyper::Request<Incoming>| async move {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(side.as_bytes()))))
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(1000)
            .serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(async move {
            // A connection that breaks is its proxy's business.
            let _ = connection.await;
        });
    }
}
