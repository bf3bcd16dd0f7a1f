//! Reads the configuration again while the gate runs: on SIGHUP, and soon after one of its files
//! changed. A broken one changes nothing but the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foregate_config::{Loaded, Problem, Server, Severity, Snapshot, SourceFile, Unusable};
use foregate_proxy::{HttpEndpoint, Live};
use foregate_refresh::{LedgerAddress, Refresher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::environment;
use crate::opened::Openings;
use crate::systemd::Supervisor;
use crate::telemetry::tell;

pub(crate) struct Reloader {
    path: PathBuf,
    live: Arc<Live>,
    refresher: Refresher<HttpEndpoint>,
    hangup: Signal,
    /// What the latest attempt read, good or not: only another change is worth another attempt.
    files: Vec<SourceFile>,
    started_with: Fixed,
    supervisor: Arc<Supervisor>,
}

/// What was set up at the start and stays until the end of the process.
struct Fixed {
    server: Server,
    connections: Option<usize>,
    ledger: LedgerAddress,
    ledger_entries: usize,
}

impl Reloader {
    /// `files` are those that the configuration in force was read from, `path` first among them.
    /// From here on SIGHUP no longer ends the process. Must be called inside a runtime.
    pub(crate) fn new(
        path: &Path,
        files: Vec<SourceFile>,
        live: Arc<Live>,
        refresher: Refresher<HttpEndpoint>,
        supervisor: Arc<Supervisor>,
    ) -> io::Result<Self> {
        let snapshot = live.load();
        Ok(Self {
            path: path.to_owned(),
            hangup: signal(SignalKind::hangup())?,
            files,
            started_with: Fixed {
                server: snapshot.server.clone(),
                connections: snapshot.limits.connections,
                ledger: snapshot.refresh.ledger.clone(),
                ledger_entries: snapshot.refresh.ledger_entries,
            },
            live,
            refresher,
            supervisor,
        })
    }

    /// Never ends.
    pub(crate) async fn run(mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {}
                _ = looks.tick() => match self.has_changed().await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(error) => {
                        tracing::error!(%error, "cannot look after the configuration's files");
                        continue;
                    }
                }
            }
            self.supervisor.reloading();
            if let Err(error) = self.reload().await {
                tracing::error!(%error, "reading the configuration broke off");
            }
            self.supervisor.ready(&status(&self.live));
        }
    }

    /// Whether a file is another than the one that was read, and holds still. One that is being
    /// written might be sound so far and lack its last rules.
    async fn has_changed(&self) -> Result<bool, JoinError> {
        let now = again(&self.files).await?;
        if now == self.files {
            return Ok(false);
        }
        sleep(SETTLED_AFTER).await;
        Ok(now == again(&self.files).await?)
    }

    async fn reload(&mut self) -> Result<(), JoinError> {
        match self.load().await? {
            Ok((Loaded { mut snapshot, warnings, files }, openings)) => {
                self.files = files;
                for warning in &warnings {
                    tell(warning);
                }
                openings.tell(&snapshot);
                let fixed = self.keep_what_is_fixed(&mut snapshot);
                for key in &fixed {
                    tracing::warn!(key, "changed, but takes effect at the next start only");
                }
                self.live.wait_for_next_start(fixed);
                self.refresher.remember(snapshot.session_max_age);
                let generation = self.live.store(snapshot);
                tracing::info!(generation, "reloaded");
            }
            Err(unusable) => {
                self.files = unusable.files;
                for problem in &unusable.problems {
                    tell(problem);
                }
                let generation = self.live.keep(in_short(&unusable.problems));
                tracing::error!(generation, "not reloaded: the configuration in force stays");
            }
        }
        Ok(())
    }

    /// Reads all of it, once more where it was written meanwhile: half a file is not what anybody
    /// meant.
    async fn load(&self) -> Result<Result<(Loaded, Openings), Unusable>, JoinError> {
        let mut looks_left = 5;
        loop {
            let (path, before) = (self.path.clone(), self.live.load());
            let load = move || {
                let loaded = foregate_config::load(&path, &environment())?;
                let openings = Openings::between(&before, &loaded.snapshot);
                Ok((loaded, openings))
            };
            let loaded: Result<(Loaded, Openings), Unusable> = spawn_blocking(load).await?;
            let files = match &loaded {
                Ok((loaded, _)) => &loaded.files,
                Err(unusable) => &unusable.files,
            };
            looks_left -= 1;
            if looks_left == 0 || again(files).await? == *files {
                return Ok(loaded);
            }
            sleep(SETTLED_AFTER).await;
        }
    }

    /// The keys that differ from what the process started with. `snapshot` gets what is really in
    /// use: a listener that stays needs its certificates.
    fn keep_what_is_fixed(&self, snapshot: &mut Snapshot) -> Vec<&'static str> {
        let Fixed { server: fixed, connections, ledger, ledger_entries } = &self.started_with;
        let server = &mut snapshot.server;
        let keys = [
            ("server.http", server.http != fixed.http),
            ("server.https", server.https != fixed.https),
            ("server.admin", server.admin != fixed.admin),
            ("server.workers", server.workers != fixed.workers),
            ("server.reuse_port", server.reuse_port != fixed.reuse_port),
            ("limits.connections", snapshot.limits.connections != *connections),
            ("refresh.ledger", snapshot.refresh.ledger != *ledger),
            ("refresh.ledger_entries", snapshot.refresh.ledger_entries != *ledger_entries),
        ];
        server.http.clone_from(&fixed.http);
        server.https = fixed.https;
        server.admin.clone_from(&fixed.admin);
        server.workers = fixed.workers;
        server.reuse_port = fixed.reuse_port;
        snapshot.limits.connections = *connections;
        snapshot.refresh.ledger.clone_from(ledger);
        snapshot.refresh.ledger_entries = *ledger_entries;
        snapshot.tls = match fixed.https {
            Some(_) => snapshot.tls.take().or_else(|| self.live.load().tls.clone()),
            None => None,
        };
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

/// What is in force, in a few words for `systemctl status`.
pub(crate) fn status(live: &Live) -> String {
    let (generation, failed) = live.state();
    match failed {
        None => format!("Serving with configuration generation {generation}"),
        Some(why) => {
            format!("Serving with configuration generation {generation}, not with the file: {why}")
        }
    }
}

/// Twice this and [`SETTLED_AFTER`] is less than the five seconds that operators are promised.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const SETTLED_AFTER: Duration = Duration::from_millis(300);

/// On a thread of its own: a disk that does not answer must not hold up redemptions.
async fn again(files: &[SourceFile]) -> Result<Vec<SourceFile>, JoinError> {
    let files = files.to_vec();
    spawn_blocking(move || files.iter().map(SourceFile::again).collect()).await
}

/// The first error, and how many more there are.
fn in_short(problems: &[Problem]) -> String {
    let errors = || problems.iter().filter(|problem| problem.severity == Severity::Error);
    let more = match errors().count().saturating_sub(1) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let first = errors().next().map(ToString::to_string).unwrap_or_default();
    let first = first.lines().next().unwrap_or_default();
    format!("{}{more}", first.strip_prefix("error: ").unwrap_or(first))
}
