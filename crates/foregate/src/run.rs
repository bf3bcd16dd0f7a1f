//! `foregate run`: listen, serve, and end in good order.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use foregate_config::{Loaded, Snapshot};
use foregate_proxy::{HttpEndpoint, Live, Stop, listen};
use foregate_refresh::{Event, Ledger, MemoryLedger, Outcome, RefreshSettings, Refresher};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::workers::Workers;
use crate::{load, telemetry};

pub(crate) fn command(path: &Path) -> anyhow::Result<ExitCode> {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    telemetry::start();
    serve(&control_runtime()?, loaded, |_| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that is not a visitor's request runs here: redemptions, signals, the end.
pub(crate) fn control_runtime() -> anyhow::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the control runtime")
}

/// Serves until a signal says that it is enough. `ready` hears where the gate listens.
pub(crate) fn serve(
    control: &Runtime,
    loaded: Loaded,
    ready: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let snapshot = loaded.snapshot;
    let server = snapshot.server.clone();
    let listener = listen(server.http, server.reuse_port)
        .with_context(|| format!("cannot listen on {}", server.http))?;
    let address = listener.local_addr()?;
    let refresher = refresher(control, &snapshot);
    let live = Arc::new(Live::new(snapshot));
    let (stop, stopping) = Stop::new();
    let mut workers = Workers::start(server.workers, &listener, &live, &refresher, &stopping)?;
    // The workers hold the queue now; when the last of them lets go it closes.
    drop(listener);
    tracing::info!(listener = "http", %address, workers = server.workers, "listening");
    ready(address)?;

    control.block_on(async {
        asked_to_stop().await?;
        tracing::info!("stopping");
        stop.begin();
        tokio::time::sleep(server.drain_delay).await;
        stop.close();
        let finish = async {
            workers.ended().await;
            refresher.drain().await;
        };
        if tokio::time::timeout(server.shutdown_grace, finish).await.is_err() {
            tracing::warn!("requests were still running at the end of shutdown_grace");
        }
        tracing::info!("stopped");
        Ok(())
    })
}

fn refresher(control: &Runtime, snapshot: &Snapshot) -> Refresher<HttpEndpoint> {
    let settings = RefreshSettings {
        ledger_entries: snapshot.refresh.ledger_entries,
        remember: snapshot.session_max_age,
    };
    let ledger = Ledger::Memory(MemoryLedger::new(settings.ledger_entries));
    let runtime = control.handle().clone();
    Refresher::new(HttpEndpoint::default(), ledger, runtime, settings, report)
}

/// One line for each redemption: what came out of it, and on whose side it failed.
fn report(event: Event) {
    let (backend, outcome) = (&event.backend, event.outcome.word());
    let millis = event.took.as_millis() as u64;
    let fault = match &event.outcome {
        Outcome::Unavailable(fault) => Some(fault.to_string()),
        Outcome::Refused { answer_lost: true } => {
            Some("an earlier answer was lost on its way, and the token may be spent by it".into())
        }
        _ => None,
    };
    if matches!(event.outcome, Outcome::Renewed) {
        tracing::info!(%backend, outcome, millis, "refresh");
    } else {
        tracing::warn!(%backend, outcome, millis, fault, "refresh");
    }
}

async fn asked_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
