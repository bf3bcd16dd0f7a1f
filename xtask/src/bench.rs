//! `cargo xtask bench`: nginx as a plain proxy and Foregate with a full admission, in front of the
//! same origin, in turn. What counts is the CPU time of the proxy's process for one request: this
//! holds on noisy machines, where the wall clock does not.

mod footprint;
mod ledgers;
mod load;
mod process;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use foregate_stage::{random, seal_v4, seal_v5};

pub(crate) use crate::bench::footprint::footprint;
pub(crate) use crate::bench::ledgers::ledgers;
use crate::bench::load::{Load, Origin};
use crate::bench::process::Server;
use crate::build;
use crate::needs::{self, Program};

const ROUNDS: usize = 9;
const SECRET: &str = "a-public-bench-secret-do-not-use-0123456789";
const HOST: &str = "app.example.com";

/// Runs nine rounds of every contestant and prints the medians, with the spread.
pub(crate) fn run(requests: usize) -> anyhow::Result<()> {
    needs::programs(&[
        Program { name: "nginx", package: "nginx-light" },
        Program { name: "taskset", package: "util-linux" },
    ])?;
    let program = build(true)?;
    let origin = Origin::start()?;
    in_a_folder(|directory| measure(requests, &program, origin.address, directory))
}

/// Measures with a folder for files, which goes afterwards.
fn in_a_folder(measure: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let directory = std::env::temp_dir().join(format!("foregate-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let measured = measure(&directory);
    std::fs::remove_dir_all(&directory)?;
    measured
}

fn measure(
    requests: usize,
    program: &Path,
    origin: SocketAddr,
    directory: &Path,
) -> anyhow::Result<()> {
    let nginx = Server::nginx(directory, free_port()?, origin)?;
    let foregate = Server::foregate(program, directory, free_port()?, origin)?;
    let v4 = vec![cookie(4, 0)];
    let contestants = [
        ("nginx, plain proxy", &nginx, v4.clone()),
        ("foregate, v4 cookie", &foregate, v4),
        ("foregate, v5 cookie", &foregate, vec![cookie(5, 0)]),
        ("foregate, 1,000 v4 cookies", &foregate, (0..1000).map(|n| cookie(4, n)).collect()),
    ];
    let length = contestants[1].2[0].len();
    println!("{requests} requests a round, {ROUNDS} rounds, cookie header {length} bytes\n");

    let mut micros: Vec<Vec<f64>> = vec![Vec::new(); contestants.len()];
    for round in 0..=ROUNDS {
        for (index, (name, server, cookies)) in contestants.iter().enumerate() {
            let load = Load { host: HOST, cookies, connections: 16 };
            // The first round warms up and does not count.
            let count = if round == 0 { requests / 4 } else { requests };
            let before = server.cpu_time()?;
            load.run(server.address, count).with_context(|| (*name).to_owned())?;
            let spent = server.cpu_time()? - before;
            if round > 0 {
                micros[index].push(spent.as_secs_f64() * 1e6 / count as f64);
            }
        }
        eprint!("\rround {round} of {ROUNDS}");
    }
    eprintln!();
    println!(
        "{:<28} {:>8} {:>8} {:>8}   {:>8}",
        "µs CPU per request", "min", "median", "max", "× nginx"
    );
    for ((name, ..), spent) in contestants.iter().zip(&micros) {
        let mut ratios: Vec<f64> =
            spent.iter().zip(&micros[0]).map(|(own, nginx)| own / nginx).collect();
        let (min, median, max) = spread(&mut spent.clone());
        let (_, ratio, _) = spread(&mut ratios);
        println!("{name:<28} {min:>8.2} {median:>8.2} {max:>8.2}   {ratio:>8.2}");
    }
    Ok(())
}

fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// A session of about 2 kB, good for a day.
fn cookie(version: u8, number: usize) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = (now + Duration::from_secs(24 * 60 * 60)).as_secs();
    let claims = serde_json::json!({
        "name": "Ada Lovelace", "email": "ada@example.com", "sub": number.to_string(),
        "user": { "id": number, "role": "admin" },
        "accessToken": token(&format!("access-{number}-"), 900),
        "accessTokenExpiry": end * 1000,
        "refreshToken": token(&format!("refresh-{number}-"), 64),
        "iat": now.as_secs(), "exp": end, "jti": "00000000-0000-4000-8000-000000000000",
    })
    .to_string();
    let (name, token) = match version {
        4 => ("next-auth.session-token", seal_v4(SECRET, &claims, random())),
        _ => ("authjs.session-token", seal_v5(SECRET, "authjs.session-token", &claims, random())),
    };
    format!("theme=dark; _ga=GA1.1.1234567890.1700000000; {name}={token}")
}

/// Some visible characters.
fn token(start: &str, length: usize) -> String {
    start
        .chars()
        .chain("abcdefghijklmnopqrstuvwxyz0123456789".chars().cycle())
        .take(length)
        .collect()
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// What Foregate is asked to do: a roles rule, an injected token, an identity header.
fn proxy_toml(port: u16, origin: SocketAddr) -> String {
    format!(
        r#"[server]
http = "127.0.0.1:{port}"
workers = 1

[session]
secrets = ["{SECRET}"]
domain = ".example.com"
secure = false

[backend]
dialect = "json"
refresh_url = "http://127.0.0.1:9/refresh"

[login]
url = "http://auth.example.com/login"

[[app]]
host = "{HOST}"
upstream = "http://{origin}"
headers = {{ "X-User-Id" = "session.sub" }}

  [[app.rule]]
  path = ["/", "/about", "/_next/static/:path*"]
  access = "public"

  [[app.rule]]
  path = "/admin/:path*"
  roles = ["admin"]
"#
    )
}

/// The same way to the same origin, without any decision.
fn nginx_conf(directory: &Path, port: u16, origin: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        r"worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 100000000;
  large_client_header_buffers 4 16k;
  upstream origin {{ server {origin}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection '';
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"
    )
}

fn ensure_all_answered(answered: usize, asked: usize) -> anyhow::Result<()> {
    ensure!(answered == asked, "{answered} of {asked} requests were answered with 200");
    Ok(())
}
