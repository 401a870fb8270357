//! An API server that answers as a test says, and remembers what it was asked.

use axum::http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tower_test::mock;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET"
    }

    /// Method and path, for comparing.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// All requests so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<Asked> {
        self.0.lock().expect("no test thread panicked").clone()
    }

    pub(crate) fn writes(&self) -> Vec<Asked> {
        self.all().into_iter().filter(Asked::is_write).collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.writes().iter().map(Asked::line).collect()
    }
}

/// A client of a fake. A request that the test has no answer for stays open for ever, as a watch does.
pub(crate) fn client<A: Into<Option<(u16, Value)>>>(
    answer: impl Fn(&Asked) -> A + Send + 'static,
) -> (Client, Log) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let told = log.clone();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let asked = read(request).await;
            told.0
                .lock()
                .expect("no test thread panicked")
                .push(asked.clone());
            match answer(&asked).into() {
                Some((status, body)) => send.send_response(respond(status, &body)),
                None => open.push(send),
            }
        }
    });
    (Client::new(service, "default"), log)
}

async fn read(request: Request<Body>) -> Asked {
    let (parts, body) = request.into_parts();
    let bytes = body.collect_bytes().await.expect("a whole body");
    Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

fn respond(status: u16, body: &Value) -> Response<Body> {
    let bytes = serde_json::to_vec(body).expect("serializable");
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    response.body(Body::from(bytes)).expect("a valid response")
}
