//! The operator's own HTTP server: liveness, readiness, metrics.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Context;

const PORT: u16 = 8080;

/// Serves until told to stop.
pub async fn serve(context: Arc<Context>, stop: CancellationToken) -> std::io::Result<()> {
    // The IPv6 wildcard takes IPv4 too; machines without IPv6 refuse it.
    let any = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
    ];
    let listener = match TcpListener::bind(&any[..]).await {
        Ok(listener) => listener,
        Err(error) => {
            // Without its probes the pod is of no use: end the rest too.
            stop.cancel();
            return Err(error);
        }
    };
    axum::serve(listener, router(context))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// The three pages.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    match context.unready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(kind) => (StatusCode::SERVICE_UNAVAILABLE, format!("{kind} not read yet\n")),
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> String {
    context.metrics.render()
}
