//! `foregate demo`: the gate on the repository's own `proxy.toml`, with a world around it on
//! loopback.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use foregate_config::{Endpoint, Listen, Snapshot};
use foregate_proxy::Handed;
use foregate_stage::{Demo, DemoAddresses, DemoSettings, SECRET};
use http::Uri;

use crate::print::print;
use crate::{environment, load, run, telemetry, usable};

pub(crate) fn command(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = match config {
        Some(path) => load(path),
        None => usable(foregate_config::parse("proxy.toml", PROXY_TOML, &environment())),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    telemetry::start();
    let addresses = addresses(&loaded.snapshot)
        .context("a demo's configuration names its apps and its backend by address")?;
    let control = run::control_runtime()?;
    let mut world = None;
    run::serve(&control, loaded, config, Handed::default(), |listeners| {
        let gate = listeners.iter().find_map(|(_, listen)| match listen {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        });
        let gate = gate.context("a browser needs a listener with a port")?;
        let demo = control.block_on(foregate_stage::demo(settings(gate, addresses)))?;
        introduce(&demo)?;
        world = Some(demo);
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

const PROXY_TOML: &str = include_str!("../../../proxy.toml");

/// The demo listens where the configuration expects the app, the shop, the sign-in form and the
/// backend.
fn addresses(snapshot: &Snapshot) -> Option<DemoAddresses> {
    let app = |number: usize| match &snapshot.apps.get(number)?.upstreams.first()?.endpoint {
        Endpoint::Tcp { host, port } => Some(SocketAddr::new(host.parse().ok()?, *port)),
        Endpoint::Unix(_) => None,
    };
    let backend: Uri = snapshot.backends.first()?.backend.url()?.parse().ok()?;
    Some(DemoAddresses {
        app: app(0)?,
        shop: app(1)?,
        sign_in: app(2)?,
        backend: backend.authority()?.as_str().parse().ok()?,
    })
}

fn settings(gate: SocketAddr, addresses: DemoAddresses) -> DemoSettings {
    let (secret, gate_port) = (SECRET.to_owned(), gate.port());
    DemoSettings { addresses, secret, gate_port, access_life: ACCESS_LIFE }
}

/// Short enough to see a token renewed while one looks.
const ACCESS_LIFE: Duration = Duration::from_secs(20);

fn introduce(demo: &Demo) -> io::Result<()> {
    let [app, shop, sign_in] = demo.urls();
    let life = ACCESS_LIFE.as_secs();
    print(|out| {
        writeln!(out, "Foregate's demo. Open {app} in a browser; Ctrl-C ends it.\n")?;
        writeln!(out, "  {app}   an app: /dashboard needs a session, /admin the role admin")?;
        writeln!(out, "  {shop}  another app that knows the same session")?;
        writeln!(out, "  {sign_in}  where one signs in\n")?;
        for account in demo.accounts() {
            let roles = account.roles.join(", ");
            writeln!(out, "  {}, password {} ({roles})", account.email, account.password)?;
        }
        writeln!(out, "\nAccess tokens live {life} s here, so that you see them renewed.")
    })
}
