//! `foregate run`: listen, serve, and end in good order.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use foregate_config::{Limits, Listen, Loaded, Server};
use foregate_proxy::{
    Admin, Capacity, Handed, HttpEndpoint, ListenError, Listeners, Live, SocketFiles, Stop,
};
use foregate_refresh::{
    Event, Ledger, LedgerError, LedgerEvent, LedgerState, Outcome, RefreshSettings, Refresher,
};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::reload::{self, Reloader};
use crate::systemd::Supervisor;
use crate::workers::Workers;
use crate::{FAILED, load, systemd, telemetry};

pub(crate) fn command(path: &Path) -> anyhow::Result<ExitCode> {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    telemetry::start();
    let served = systemd::handed()
        .and_then(|handed| serve(&control_runtime()?, loaded, Some(path), handed, |_| Ok(())));
    match served {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if telemetry::is_read_by_programs() => {
            tracing::error!(key = key_of(&error), "{error:#}");
            Ok(ExitCode::from(FAILED))
        }
        Err(error) => Err(error),
    }
}

/// The key of the configuration that a failure is about.
fn key_of(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref() {
        Some(ListenError::Bind { key, .. }) => Some(format!("server.{key}")),
        _ => error.is::<LedgerError>().then(|| "refresh.ledger".to_owned()),
    }
}

/// Everything that is not a visitor's request runs here: redemptions, signals, the end.
pub(crate) fn control_runtime() -> anyhow::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the control runtime")
}

/// Serves until a signal says that it is enough. What `path` names is read again when it changes;
/// what was not `handed` over is opened; `ready` hears where the gate listens.
pub(crate) fn serve(
    control: &Runtime,
    loaded: Loaded,
    path: Option<&Path>,
    mut handed: Handed,
    ready: impl FnOnce(&[(&str, Listen)]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Loaded { snapshot, warnings, files } = loaded;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = path.map(|path| path.display().to_string()),
        ledger = %snapshot.refresh.ledger,
        backends = snapshot.backends.len(),
        apps = snapshot.apps.len(),
        "starting"
    );
    for warning in &warnings {
        telemetry::tell(warning);
    }
    let server = snapshot.server.clone();
    let capacity = capacity(&snapshot.limits);
    let live = Arc::new(Live::new(snapshot));
    let refresher = refresher(control, &live)?;
    let listeners = Listeners::open(&server, &live, &mut handed)?;
    let admin_listener = admin_listener(&server, &mut handed)?;
    handed.all_taken()?;
    let supervisor = Arc::new(Supervisor::of_process()?);
    let (addresses, socket_files) = (listeners.addresses()?, listeners.socket_files());
    if let Some(path) = path {
        let _inside = control.enter();
        let (live, refresher) = (Arc::clone(&live), refresher.clone());
        let supervisor = Arc::clone(&supervisor);
        control.spawn(Reloader::new(path, files, live, refresher, supervisor)?.run());
    }
    let (stop, stopping) = Stop::new();
    let count = server.workers;
    let mut workers = Workers::start(count, &listeners, &live, &refresher, &capacity, &stopping)?;
    // The workers hold the queues now; when the last of them lets go they close.
    drop(listeners);
    for (listener, address) in &addresses {
        tracing::info!(listener, %address, workers = count, "listening");
    }
    let admin = Admin {
        live: Arc::clone(&live),
        refresher: refresher.clone(),
        capacity,
        stopping,
        listeners: addresses.clone(),
    };
    let leaving = Arc::new(Notify::new());
    let admin = match admin_listener {
        Some(listener) => Some(administer(control, admin, listener, Arc::clone(&leaving))?),
        None => None,
    };
    ready(&addresses)?;
    supervisor.ready(&reload::status(&live));

    control.block_on(async {
        asked_to_stop().await?;
        let server = live.load().server.clone();
        tracing::info!("stopping");
        supervisor.stopping(server.drain_delay.saturating_add(server.shutdown_grace));
        stop.begin();
        // Where a successor shares the port, it is the one to be asked from here on.
        if server.reuse_port {
            leaving.notify_one();
        }
        tokio::time::sleep(server.drain_delay).await;
        stop.close();
        let end = Instant::now() + server.shutdown_grace;
        let finish = async {
            workers.ended().await;
            refresher.drain().await;
        };
        if timeout_at(end, finish).await.is_err() {
            tracing::warn!("requests were still running at the end of shutdown_grace");
        }
        if timeout_at(end, refresher.saved()).await.is_err() {
            let lost = refresher.unsaved();
            tracing::error!(lost, "new tokens are lost: the ledger did not come back in time");
        }
        socket_files.remove();
        if let Some(socket_files) = &admin {
            socket_files.remove();
        }
        tracing::info!("stopped");
        Ok(())
    })
}

/// The operator's listener. A default that nobody asked for is no reason not to serve: there may be
/// another gate on this machine.
fn admin_listener(server: &Server, handed: &mut Handed) -> Result<Option<Listeners>, ListenError> {
    match Listeners::open_admin(server, handed) {
        Err(error @ ListenError::Bind { .. }) if !server.admin_is_set => {
            let hint = "set server.admin to another address, or to \"\" for none";
            let error = anyhow::Error::from(error);
            tracing::warn!(hint, "no health, no metrics and no status page: {error:#}");
            Ok(None)
        }
        opened => opened,
    }
}

/// Begins to answer the operator, and tells where. This ends with the process, or when `leaving`.
fn administer(
    control: &Runtime,
    admin: Admin,
    listener: Listeners,
    leaving: Arc<Notify>,
) -> anyhow::Result<SocketFiles> {
    for (listener, address) in listener.addresses()? {
        tracing::info!(listener, %address, "listening");
    }
    let socket_files = listener.socket_files();
    control.spawn(async move {
        match admin.serve(listener, leaving.notified()).await {
            Ok(()) => tracing::info!("the admin listener is left to whoever else has the port"),
            Err(error) => tracing::error!(%error, "the admin listener ended"),
        }
    });
    Ok(socket_files)
}

/// As many visitors as the file handles allow, each of whom may need another one towards an app;
/// whoever sets a number knows how many of his only idle.
fn capacity(limits: &Limits) -> Capacity {
    let handles = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(FEWEST_HANDLES);
    let allowed = handles.saturating_sub(RESERVED_HANDLES);
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX).max(1);
    if let Some(wanted) = limits.connections.filter(|wanted| *wanted > allowed) {
        tracing::warn!(wanted, allowed, "limits.connections is more than the file limit allows");
    }
    let visitors = limits.connections.unwrap_or(allowed / 2).min(allowed);
    Capacity::new(visitors, (allowed - visitors).max(allowed / 4))
}

/// What POSIX promises a process.
const FEWEST_HANDLES: u64 = 256;
/// For listeners, backends, the log, and the files that are read again.
const RESERVED_HANDLES: u64 = 64;

fn refresher(control: &Runtime, live: &Arc<Live>) -> anyhow::Result<Refresher<HttpEndpoint>> {
    let snapshot = live.load();
    let settings = RefreshSettings {
        ledger_entries: snapshot.refresh.ledger_entries,
        remember: snapshot.session_max_age,
    };
    let runtime = control.handle().clone();
    let ledger = Ledger::open(
        &snapshot.refresh.ledger,
        settings.ledger_entries,
        settings.remember,
        &runtime,
        report_ledger,
    )?;
    let live = Arc::clone(live);
    let report = move |event: Event| {
        live.refreshed(&event);
        report(event);
    };
    Ok(Refresher::new(HttpEndpoint::default(), ledger, runtime, settings, report))
}

/// What an operator has to know of the ledger, the moment it happens.
fn report_ledger(event: LedgerEvent) {
    match event {
        LedgerEvent::State(LedgerState::Good) => tracing::info!("the ledger is in use"),
        LedgerEvent::State(LedgerState::Waiting(why)) => {
            tracing::warn!(why, "waiting for the ledger: nobody is refreshed until it is there");
        }
        LedgerEvent::State(LedgerState::AtRisk(why)) => {
            let risk = "new tokens are in this process alone, and lost if it ends now";
            tracing::error!(why, "the ledger cannot be used: {risk}");
        }
        LedgerEvent::MovedAside { to, why } => {
            let to = to.display();
            tracing::error!(why, %to, "the ledger's file was moved aside, and a new one begun");
        }
    }
}

/// One line for each redemption: what came out of it, and on whose side it failed.
fn report(event: Event) {
    let (backend, outcome) = (&event.backend, event.outcome.word());
    if event.weak_token {
        tracing::warn!(%backend, "refresh tokens have fewer than 128 bits: they can be guessed");
    }
    let millis = event.took.as_millis() as u64;
    let fault = match &event.outcome {
        Outcome::Unavailable(fault) => Some(fault.to_string()),
        Outcome::Refused { answer_lost, answer } => {
            let lost = "an earlier answer was lost on its way, and the token may be spent by it";
            let answer = answer.as_ref().map(|answer| format!("refused: {answer}"));
            let words = answer.into_iter().chain(answer_lost.then(|| lost.to_owned()));
            Some(words.collect::<Vec<_>>().join("; ")).filter(|words| !words.is_empty())
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
