//! /healthz, /readyz and /metrics on one port. Does IO.

use crate::health::Health;
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::io;
use tokio::net::TcpListener;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until it is dropped.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) -> Result<(), io::Error> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
        .merge(Router::new().route("/metrics", get(text)).with_state(metrics));
    axum::serve(listener, router).await
}

async fn healthz(State(health): State<Health>) -> Response {
    answer(health.is_alive(), "the reconcile loop hangs")
}

async fn readyz(State(health): State<Health>) -> Response {
    answer(health.is_ready(), "not all watches have shown what there is")
}

async fn text(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn answer(good: bool, otherwise: &'static str) -> Response {
    if good {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}\n")).into_response()
    }
}
