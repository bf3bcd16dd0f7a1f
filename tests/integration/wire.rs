//! Clients and servers of other authors on both sides of the gate. What each of them says and
//! expects stands in `tests/wire`; here they are started, pointed at one another, and counted.

mod curl;
mod h2spec;
mod peers;

use std::path::Path;

use foregate_tests::Certificates;
use serde_json::Value;

use self::peers::{App, Entrance, Way};

#[tokio::test]
async fn websockets_of_npm_and_pypi_talk_through_the_gate_in_every_pairing() {
    for server in ["node websocket/server.mjs", "python websocket/server.py"] {
        let app = App::start(server, &[]).await;
        let entrance = before(&app, "http").await;
        for (client, way, messages) in [
            ("node websocket/client.mjs", Way::Plain, 10_000),
            ("python websocket/client.py", Way::Plain, 10_000),
            ("node websocket/client.mjs", Way::Tls, 1_000),
            ("python websocket/client.py", Way::Tls, 1_000),
        ] {
            let count = [("MESSAGES", messages.to_string())];
            let steps = entrance.visit(client, &as_str(&count), HOST, way).await;
            assert_eq!(sum(&steps, "messages"), messages + messages / 5, "{server}, {client}");
        }
    }
}

#[tokio::test]
async fn websockets_over_http2_reach_servers_that_know_only_http1() {
    for server in ["node websocket/server.mjs", "python websocket/server.py"] {
        let app = App::start(server, &[]).await;
        let entrance = before(&app, "http").await;
        for (way, messages) in [(Way::Plain, 10_000), (Way::Tls, 1_000)] {
            let environment = [("OVER", "h2".to_owned()), ("MESSAGES", messages.to_string())];
            let client = "node websocket/client.mjs";
            let steps = entrance.visit(client, &as_str(&environment), HOST, way).await;
            assert_eq!(sum(&steps, "messages"), messages + messages / 5, "{server}, {way:?}");
        }
    }
}

#[tokio::test]
async fn websockets_of_either_version_reach_a_server_that_knows_only_http2() {
    let app = App::start("node websocket/server.mjs", &[("SPEAK", "h2c")]).await;
    let entrance = before(&app, "h2c").await;
    for (client, over) in [
        ("node websocket/client.mjs", "http/1.1"),
        ("node websocket/client.mjs", "h2"),
        ("python websocket/client.py", "http/1.1"),
    ] {
        let environment = [("OVER", over), ("MESSAGES", "5000")];
        let steps = entrance.visit(client, &environment, HOST, Way::Plain).await;
        assert_eq!(sum(&steps, "messages"), 6_000, "{client}, {over}");
    }
}

#[tokio::test]
async fn grpc_of_npm_and_pypi_works_through_the_gate_in_every_pairing() {
    for server in ["node grpc/server.mjs", "python grpc/server.py"] {
        let certificates = Certificates::covering(&["*.example.com", "localhost"]);
        let authority = shown(certificates.authority());
        let pair = [certificates.certificate(), certificates.key()].map(shown);
        let h2c = App::start(server, &[]).await;
        let https = App::start(server, &[("CERT", &pair[0]), ("KEY", &pair[1])]).await;
        let apps = [
            ("h2c.example.com", upstream(&h2c, "h2c")),
            ("https.example.com", trusting(&upstream(&https, "https"), &authority)),
        ];
        let entrance = Entrance::open(certificates, &apps).await;
        for client in ["node grpc/client.mjs", "python grpc/client.py"] {
            for (host, way) in [
                ("h2c.example.com", Way::Plain),
                ("h2c.example.com", Way::Tls),
                ("https.example.com", Way::Tls),
            ] {
                let steps = entrance.visit(client, &[], host, way).await;
                assert_eq!(sum(&steps, "messages"), 2_200, "{server}, {client}, {host}, {way:?}");
            }
        }
    }
}

#[tokio::test]
async fn events_and_websockets_reach_a_page_in_chromium() {
    let app = App::start("node browser/site.mjs", &[]).await;
    let entrance = before(&app, "http").await;
    for way in [Way::Plain, Way::Tls] {
        let steps = entrance.visit("node browser/visitor.mjs", &[], HOST, way).await;
        assert_eq!((sum(&steps, "events"), sum(&steps, "messages")), (15, 1_000));
    }
}

#[tokio::test]
async fn clients_of_three_languages_work_with_every_kind_of_upstream() {
    let certificates = Certificates::covering(&["*.example.com", "localhost"]);
    let authority = shown(certificates.authority());
    let socket = shown(&certificates.authority().with_file_name("app.sock"));
    let pair = [certificates.certificate(), certificates.key()].map(shown);
    let origin = "node http/origin.mjs";
    let http = App::start(origin, &[]).await;
    let h2c = App::start(origin, &[("SPEAK", "h2c")]).await;
    let https = [("SPEAK", "https"), ("CERT", &pair[0]), ("KEY", &pair[1])];
    let https = App::start(origin, &https).await;
    let _unix = App::start(origin, &[("SPEAK", "unix"), ("SOCKET", &socket)]).await;
    let apps = [
        ("http.example.com", upstream(&http, "http")),
        ("h2c.example.com", upstream(&h2c, "h2c")),
        ("https.example.com", trusting(&upstream(&https, "https"), &authority)),
        ("unix.example.com", format!("upstream = \"unix:{socket}\"")),
    ];
    let hosts = apps.each_ref().map(|(host, _)| *host);
    let entrance = Entrance::open(certificates, &apps).await;
    for host in hosts {
        for (client, over, way) in CLIENTS {
            entrance.visit(client, &[("OVER", over)], host, way).await;
        }
    }
}

/// Clients, what each is told to speak, and where.
const CLIENTS: [(&str, &str, Way); 9] = [
    ("node http/client.mjs", "http/1.1", Way::Plain),
    ("node http/client.mjs", "http/1.1", Way::Tls),
    ("python http/client.py", "http/1.1", Way::Plain),
    ("python http/client.py", "http/1.1", Way::Tls),
    ("python http/client.py", "h2", Way::Tls),
    (".built/go-client", "http/1.1", Way::Plain),
    (".built/go-client", "http/1.1", Way::Tls),
    (".built/go-client", "h2c", Way::Plain),
    (".built/go-client", "h2", Way::Tls),
];

/// A gate in front of an app that is spoken to by `scheme`.
async fn before(app: &App, scheme: &str) -> Entrance {
    let certificates = Certificates::covering(&["*.example.com"]);
    Entrance::open(certificates, &[(HOST, upstream(app, scheme))]).await
}

/// The line of an `[[app]]` table.
fn upstream(app: &App, scheme: &str) -> String {
    format!("upstream = \"{scheme}://localhost:{}\"", app.port)
}

/// The same, where the app's certificate is signed by an authority of its own.
fn trusting(lines: &str, authority: &str) -> String {
    format!("{lines}\nupstream_ca = \"{authority}\"")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The sum of what the steps counted under this name.
fn sum(steps: &[Value], name: &str) -> u64 {
    steps.iter().filter_map(|step| step[name].as_u64()).sum()
}

fn as_str<'a, const N: usize>(environment: &'a [(&'a str, String); N]) -> [(&'a str, &'a str); N] {
    environment.each_ref().map(|(name, value)| (*name, value.as_str()))
}

const HOST: &str = "app.example.com";
