//! The agent's own HTTP server: whether it lives, whether it attracts traffic, and what it measures.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::metrics::Metrics;

/// The loop wakes up far more often; a change of iptables may take 20 s a family.
const SILENCE: Duration = Duration::from_mins(3);
/// How long a scrape waits for fresh counters before it takes what was last read.
const FRESHNESS: Duration = Duration::from_secs(2);

/// Whether traffic is attracted, or why not.
pub type Readiness = Result<(), String>;

/// Asks the loop to read the kernel's counters into the metrics.
pub type Refresh = oneshot::Sender<()>;

/// What the server tells.
#[derive(Clone)]
pub struct Shared {
    /// Whether traffic is attracted.
    pub readiness: watch::Receiver<Readiness>,
    /// When the loop last was awake.
    pub heartbeat: watch::Receiver<Instant>,
    /// All series.
    pub metrics: Arc<Metrics>,
    /// The loop.
    pub refresh: mpsc::Sender<Refresh>,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, shared: Shared) {
    if let Err(error) = axum::serve(listener, router(shared)).await {
        warn!(error = &error as &dyn std::error::Error, "HTTP server ended");
    }
}

/// Listens on all addresses: the kubelet comes to the pod's.
pub async fn listen(port: u16) -> std::io::Result<TcpListener> {
    let all = [
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
    ];
    // The second is for machines without IPv6.
    TcpListener::bind(&all.map(|address| SocketAddr::new(address, port))[..]).await
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

/// Never asks anybody else: a lost API server must not end an agent that serves.
async fn healthz(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if shared.heartbeat.borrow().elapsed() < SILENCE {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck\n")
    }
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    match &*shared.readiness.borrow() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let (done, fresh) = oneshot::channel();
    if shared.refresh.try_send(done).is_ok() {
        let _ = timeout(FRESHNESS, fresh).await;
    }
    let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match shared.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, content)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        readiness: watch::Sender<Readiness>,
        heartbeat: watch::Sender<Instant>,
        shared: Shared,
    }

    fn scene() -> Scene {
        let (readiness, ready) = watch::channel(Err("no table yet".to_owned()));
        let (heartbeat, beats) = watch::channel(Instant::now());
        let (refresh, _) = mpsc::channel(1);
        let metrics = Arc::default();
        Scene {
            readiness,
            heartbeat,
            shared: Shared {
                readiness: ready,
                heartbeat: beats,
                metrics,
                refresh,
            },
        }
    }

    #[tokio::test]
    async fn readiness_is_told_with_its_reason() {
        let scene = scene();
        let (status, text) = readyz(State(scene.shared.clone())).await;
        assert_eq!(
            (status, text.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "no table yet\n")
        );
        let _ = scene.readiness.send_replace(Ok(()));
        assert_eq!(readyz(State(scene.shared.clone())).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_silent_loop_is_not_healthy() {
        let scene = scene();
        assert_eq!(healthz(State(scene.shared.clone())).await.0, StatusCode::OK);
        let Some(long_ago) = Instant::now().checked_sub(SILENCE) else {
            return;
        };
        scene.heartbeat.send_replace(long_ago);
        assert_eq!(
            healthz(State(scene.shared.clone())).await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[tokio::test]
    async fn metrics_are_told_even_when_the_loop_is_busy() {
        assert_eq!(metrics(State(scene().shared)).await.status(), StatusCode::OK);
    }
}
