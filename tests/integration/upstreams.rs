//! Every kind of upstream, and what happens where one fails.

mod cut_off;
mod http2;
mod reuse;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use foregate_stage::{H2cOrigin, Origin, Script, Seen, Step};
use foregate_tests::{Browser, Certificates, Connection, Gate, Request, free_port};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};
use tokio::time::Instant;

use crate::tls::Front;
use crate::world::{ANY, APP, config};

/// A gate of one worker whose apps have these lines of `upstream`, as TOML.
async fn before(upstream: &str) -> Gate {
    let server = "\n[server]\nhttp = \"127.0.0.1:0\"\nworkers = 1\n";
    let config = config("", "UPSTREAM").replace("\"UPSTREAM\"", upstream);
    Gate::start(&[&config, server].concat()).await
}

async fn before_all(origins: &[&str]) -> Gate {
    let quoted: Vec<_> = origins.iter().map(|origin| format!("\"{origin}\"")).collect();
    before(&format!("[{}]", quoted.join(", "))).await
}

/// A socket on which everything goes on to `origin`.
fn unix_socket(certificates: &Certificates, origin: SocketAddr) -> PathBuf {
    let path = certificates.authority().with_file_name(format!("{}.sock", origin.port()));
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut outside = TcpStream::connect(origin).await.unwrap();
                // Either side may leave first.
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    path
}

#[tokio::test]
async fn every_kind_of_upstream_is_spoken_to() {
    let (http1, h2c) = (Origin::start(ANY).await.unwrap(), H2cOrigin::start(ANY).await.unwrap());
    let certificates = Certificates::covering(&["localhost", "127.0.0.1"]);
    let authority = certificates.authority().display();
    let secured_http1 = Front::start(http1.address(), &certificates, &[b"http/1.1"]).await;
    let secured_silent = Front::start(http1.address(), &certificates, &[]).await;
    let secured_h2 = Front::start(h2c.address(), &certificates, &[b"h2", b"http/1.1"]).await;
    let socket = unix_socket(&certificates, http1.address());
    let secured = |host: &str, front: &Front| {
        format!("\"https://{host}:{}\"\nupstream_ca = \"{authority}\"", front.port())
    };
    let check = async |upstream: &str, over_http2: bool| {
        let gate = before(upstream).await;
        let browser = Browser::new(gate.address());
        for (request, length) in [
            (Request::get(&format!("{APP}/public/page?a=1")), 0),
            (Request::new("POST", &format!("{APP}/public/page?a=1")).body("abc"), 3),
        ] {
            let answer = browser.send(&request).await;
            assert_eq!(answer.status, 200, "{upstream}: {}", answer.text());
            let seen = answer.json();
            assert_eq!(
                (&seen["target"], &seen["body_length"]),
                (&"/public/page?a=1".into(), &length.into())
            );
            let host = if over_http2 { ":authority" } else { "host" };
            assert_eq!(answer.seen_header(host).as_deref(), Some("app.example.com"), "{upstream}");
            assert_eq!(answer.seen_header("x-forwarded-proto").as_deref(), Some("http"));
        }
    };
    check(&format!("\"{}\"", http1.url()), false).await;
    check(&format!("\"http://localhost:{}\"", http1.address().port()), false).await;
    check(&format!("\"{}\"", h2c.url()), true).await;
    check(&format!("\"unix:{}\"", socket.display()), false).await;
    check(&secured("localhost", &secured_http1), false).await;
    check(&secured("127.0.0.1", &secured_http1), false).await;
    check(&secured("localhost", &secured_silent), false).await;
    check(&secured("localhost", &secured_h2), true).await;
    let other = Origin::start(ANY).await.unwrap();
    check(&format!("[\"{}\", \"{}\"]", http1.url(), other.url()), false).await;
}

#[tokio::test]
async fn an_upstream_that_cannot_prove_who_it_is_gets_nothing() {
    let origin = Origin::start(ANY).await.unwrap();
    let certificates = Certificates::covering(&["localhost"]);
    let others = Certificates::covering(&["localhost"]);
    let front = Front::start(origin.address(), &certificates, &[]).await;
    let (port, ours) = (front.port(), certificates.authority().display());
    let theirs = others.authority().display();
    let plain = origin.address().port();
    for (upstream, words) in [
        (
            format!("\"https://localhost:{port}\"\nupstream_ca = \"{theirs}\""),
            "is not signed by the authority of its name that upstream_ca has",
        ),
        (
            format!("\"https://127.0.0.1:{port}\"\nupstream_ca = \"{ours}\""),
            "the server's certificate is not for 127.0.0.1, but for localhost",
        ),
        (format!("\"https://localhost:{port}\""), "no connection to the app: "),
        (
            format!("\"https://localhost:{plain}\"\nupstream_ca = \"{ours}\""),
            "http:// instead of https:// may be meant",
        ),
    ] {
        let gate = before(&upstream).await;
        let answer = Browser::new(gate.address()).fetch(&format!("{APP}/about")).await;
        assert_eq!(
            (answer.status, &answer.json()["reason"]),
            (502, &"upstream_unreachable".into()),
            "{upstream}"
        );
        gate.logged(|log| log.contains(words)).await;
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_scheme_that_the_app_does_not_speak_is_doubted_until_it_answers() {
    let (http1, h2c) = (Origin::start(ANY).await.unwrap(), H2cOrigin::start(ANY).await.unwrap());
    let certificates = Certificates::covering(&["localhost"]);
    let tls = Front::start(http1.address(), &certificates, &[]).await;
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    for (upstream, words) in [
        (format!("http://localhost:{}", tls.port()), "; https:// or h2c:// may be meant"),
        (format!("http://127.0.0.1:{}", port(&h2c.url())), "; https:// or h2c:// may be meant"),
        (
            format!("h2c://127.0.0.1:{}", port(&http1.url())),
            "; the app may not speak HTTP/2: http:// may be meant",
        ),
    ] {
        let gate = before(&format!("\"{upstream}\"")).await;
        let answer = Browser::new(gate.address()).fetch(&format!("{APP}/about")).await;
        let told = (answer.status, &answer.json()["reason"]);
        assert_eq!(told, (502, &"upstream_broken".into()), "{upstream}");
        gate.logged(|log| log.contains("the app broke the connection: ")).await;
        assert!(gate.log().contains(words), "{upstream}: {}", gate.log());
    }

    // One that has answered speaks what it is asked in: it crashed.
    http1.script("/public/crash", Script::new([Step::Close]));
    let gate = before(&format!("\"{}\"", http1.url())).await;
    let browser = Browser::new(gate.address());
    assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 200);
    assert_eq!(browser.fetch(&format!("{APP}/public/crash")).await.status, 502);
    gate.logged(|log| log.contains("the app broke the connection: ")).await;
    assert!(!gate.log().contains("may be meant"), "{}", gate.log());
}

#[tokio::test]
async fn a_list_is_asked_in_turn() {
    let mut origins = Vec::new();
    for _ in 0..3 {
        origins.push(Origin::start(ANY).await.unwrap());
    }
    let urls: Vec<_> = origins.iter().map(Origin::url).collect();
    let gate = before_all(&urls.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let browser = Browser::new(gate.address());
    for round in 1..=4 {
        for _ in 0..3 {
            assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 200);
        }
        let counts: Vec<_> = origins.iter().map(|origin| origin.seen().len()).collect();
        assert_eq!(counts, [round; 3]);
    }
}

#[tokio::test]
async fn upstreams_of_one_app_may_speak_differently() {
    let (http1, h2c) = (Origin::start(ANY).await.unwrap(), H2cOrigin::start(ANY).await.unwrap());
    let dead = format!("h2c://127.0.0.1:{}", free_port());
    let gate = before_all(&[&http1.url(), &h2c.url(), &dead]).await;
    for number in 0..12 {
        let mut connection = Connection::open(gate.address()).await;
        let head = "POST /public/x HTTP/1.1\r\nHost: app.example.com\r\nTE: trailers\r\n";
        let framing = "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let body = "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
        connection.send([head, framing, body].concat()).await;
        assert_eq!(connection.answer().await.unwrap().json()["body_length"], 3, "{number}");
    }
    let seen = [http1.seen(), h2c.seen()].concat();
    let whole = |seen: &Seen| seen.body == b"abc" && seen.trailers.len() == 1;
    assert!(seen.len() == 12 && seen.iter().all(whole), "{seen:?}");
    assert!(!http1.seen().is_empty() && !h2c.seen().is_empty());
}

#[tokio::test]
async fn a_dead_upstream_costs_nobody_a_request_and_is_taken_back() {
    let alive = Origin::start(ANY).await.unwrap();
    let address = SocketAddr::new(ANY.ip(), free_port());
    let gate = before_all(&[&format!("http://{address}"), &alive.url()]).await;
    let browser = Browser::new(gate.address());
    let post = Request::new("POST", &format!("{APP}/public/form")).body("a=1");
    for _ in 0..10 {
        assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 200);
        assert_eq!(browser.send(&post).await.status, 200);
    }
    assert_eq!(alive.seen().len(), 20);
    assert!(
        alive.seen().iter().filter(|seen| seen.method == "POST").all(|seen| seen.body == b"a=1")
    );

    let revived = Origin::start(address).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while revived.seen().len() < 3 {
        assert!(Instant::now() < deadline, "it is never asked again");
        assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_again_and_again_is_passed_over_for_a_while() {
    let (broken, sound) = (Origin::start(ANY).await.unwrap(), Origin::start(ANY).await.unwrap());
    broken.script("/about", Script::new([Step::Close]));
    let gate = before_all(&[&broken.url(), &sound.url()]).await;
    let browser = Browser::new(gate.address());
    let mut failed = 0;
    for _ in 0..20 {
        let status = browser.fetch(&format!("{APP}/about")).await.status;
        failed += usize::from(status == 502);
        assert!(matches!(status, 200 | 502), "{status}");
    }
    assert_eq!(failed, 3, "three in a row, and no more");
    broken.script("/about", Script::answer("200 OK", &[], "well again"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while browser.fetch(&format!("{APP}/about")).await.text() != "well again" {
        assert!(Instant::now() < deadline, "it is never asked again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn where_all_are_dead_each_is_still_tried() {
    let (one, two) = (free_port(), free_port());
    let urls = [one, two].map(|port| format!("http://127.0.0.1:{port}"));
    let gate = before_all(&[&urls[0], &urls[1]]).await;
    let browser = Browser::new(gate.address());
    for _ in 0..4 {
        assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 502);
    }
    let _revived = Origin::start(SocketAddr::new(ANY.ip(), two)).await.unwrap();
    for _ in 0..4 {
        assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 200);
    }
}

#[tokio::test]
async fn the_only_upstream_is_asked_each_time() {
    let address = SocketAddr::new(ANY.ip(), free_port());
    let gate = before(&format!("\"http://{address}\"")).await;
    let browser = Browser::new(gate.address());
    for _ in 0..10 {
        assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 502);
    }
    let _revived = Origin::start(address).await.unwrap();
    assert_eq!(browser.fetch(&format!("{APP}/about")).await.status, 200);
}
