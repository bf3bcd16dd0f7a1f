//! What stands behind a body: held to the rules for heads, and handed to whoever can read it.

use foregate_stage::{H2cAnswer, H2cOrigin, Script, Step};
use foregate_tests::{Answer, Connection, Gate, Http2, Request};

use super::HEAD;
use crate::world::{ANY, APP, LIFE, World, config};

/// Trailers that no app may take for part of a head, or for our word. The first is sound.
const TRAILERS: [(&str, &str); 17] = [
    ("X-Sum", "sound"),
    ("Authorization", "forged"),
    ("X-User-Id", "forged"),
    ("x_user_id", "forged"),
    ("X.Roles", "forged"),
    ("X-Forwarded-For", "forged"),
    ("Forwarded", "forged"),
    ("X-HTTP-Method-Override", "forged"),
    ("x-middleware-subrequest", "forged"),
    ("Cookie", "next-auth.session-token=forged"),
    ("Host", "forged"),
    ("Content-Length", "9"),
    ("Transfer-Encoding", "gzip"),
    ("Content-Type", "forged"),
    ("Origin", "forged"),
    ("Connection", "x-sum"),
    ("Set-Cookie", "a=forged"),
];

#[tokio::test]
async fn trailers_of_a_request_say_nothing_that_its_head_could_not() {
    let world = World::start().await;
    let h2c = H2cOrigin::start(ANY).await.unwrap();
    let before_h2c = Gate::start(&config("", &h2c.url())).await;
    let (ada, _) = world.visitor("ada", LIFE);
    let names = TRAILERS.map(|(name, _)| name).join(", ");
    let lines: String =
        TRAILERS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    for gate in [&world.gate, &before_h2c] {
        for (path, cookie) in [("/about", None), ("/dashboard", ada.cookies("app.example.com"))] {
            let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
            let mut connection = Connection::open(gate.address()).await;
            let framing = format!("Trailer: {names}\r\nTransfer-Encoding: chunked\r\n");
            let body = format!("2\r\nok\r\n0\r\n{lines}\r\n");
            connection.send(format!("POST {path} {HEAD}{cookie}{framing}\r\n{body}")).await;
            assert_eq!(connection.answer().await.unwrap().status, 200, "{path}");
            let seen = [world.origin.seen(), h2c.seen()].concat();
            let seen = seen.iter().find(|seen| seen.target == path && !seen.trailers.is_empty());
            let trailers = seen.map(|seen| seen.trailers.clone());
            assert_eq!(trailers, Some(vec![("x-sum".to_owned(), "sound".to_owned())]), "{path}");
        }
    }

    // What HTTP/2 forbids in trailers ends the stream; the rest is as above.
    let allowed =
        |name: &str| !matches!(name, "Connection" | "Transfer-Encoding" | "Content-Length");
    let trailers: Vec<_> = TRAILERS.into_iter().filter(|(name, _)| allowed(name)).collect();
    let request =
        Request::new("POST", &format!("{APP}/about?h2")).header("Trailer", &names).body("ok");
    for gate in [&world.gate, &before_h2c] {
        let mut visitor = Http2::open(gate.address()).await;
        assert_eq!(visitor.send_with_trailers(&request, &trailers).await.status, 200);
    }
    for seen in [world.last_seen(), h2c.seen().pop().unwrap()] {
        assert_eq!(seen.target, "/about?h2");
        assert_eq!(seen.trailers, [("x-sum".to_owned(), "sound".to_owned())]);
    }
}

/// An app's answer with these trailers, of which it announces some.
fn trailing(announced: &str, trailers: &str) -> Script {
    let announced =
        if announced.is_empty() { String::new() } else { format!("Trailer: {announced}\r\n") };
    let head = format!("HTTP/1.1 200 OK\r\n{announced}Transfer-Encoding: chunked\r\n\r\n");
    Script::new([Step::Write(format!("{head}2\r\nok\r\n0\r\n{trailers}\r\n").into())])
}

#[tokio::test]
async fn trailers_of_an_answer_reach_whoever_can_read_them() {
    let world = World::start().await;
    let (one, both) = ("X-Sum: 1\r\n", "X-Sum: 1\r\nX-Other: 2\r\nSet-Cookie: a=1\r\n");
    world.origin.script("/public/announced", trailing("X-Sum", both));
    world.origin.script("/public/unannounced", trailing("", both));
    world.origin.script("/public/missing", trailing("X-Sum", ""));
    world.origin.script("/public/only", trailing("X-Other", one));

    let names = |answer: &Answer| {
        answer.trailers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let check = async |te: &str, path: &str, announced: Option<&str>, trailers: &str| {
        let mut connection = Connection::open(world.gate.address()).await;
        // Twice, since what stands behind a body could be read as part of the next answer.
        for _ in 0..2 {
            connection.send(format!("GET /public/{path} {HEAD}{te}\r\n")).await;
            let answer = connection.answer().await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{te} {path}");
            assert_eq!(answer.header("trailer"), announced, "{te} {path}");
            assert_eq!(names(&answer), trailers, "{te} {path}");
        }
    };
    for te in [
        "TE: trailers\r\n",
        "TE: Trailers, gzip\r\n",
        "TE: gzip\r\nTE: trailers\r\nConnection: TE\r\n",
    ] {
        check(te, "announced", Some("X-Sum"), "x-sum").await;
        // The head has left when it shows that there are trailers at all.
        check(te, "unannounced", None, "").await;
        check(te, "missing", Some("X-Sum"), "").await;
        check(te, "only", Some("X-Other"), "").await;
    }
    for te in ["", "TE: gzip\r\n"] {
        for path in ["announced", "unannounced", "missing", "only"] {
            check(te, path, None, "").await;
        }
    }
    for (path, trailers) in [
        ("announced", "x-sum x-other"),
        ("unannounced", "x-sum x-other"),
        ("missing", ""),
        ("only", "x-sum"),
    ] {
        let mut visitor = Http2::open(world.gate.address()).await;
        let answer = visitor.send(&Request::get(&format!("{APP}/public/{path}"))).await;
        assert_eq!((answer.text().as_str(), names(&answer).as_str()), ("ok", trailers), "{path}");
    }
}

#[tokio::test]
async fn trailers_cross_from_one_http_to_the_other() {
    let h2c = H2cOrigin::start(ANY).await.unwrap();
    let gate = Gate::start(&config("", &h2c.url())).await;
    let whole = |headers| H2cAnswer::Whole {
        status: 200,
        headers,
        body: "ok",
        trailers: vec![("x-sum", "1")],
    };
    h2c.script("/public/announced", whole(vec![("trailer", "x-sum")]));
    h2c.script("/public/silent", whole(vec![]));
    for (te, path, expected) in [
        ("TE: trailers\r\n", "announced", 1),
        ("TE: trailers\r\n", "silent", 0),
        ("", "announced", 0),
    ] {
        let mut connection = Connection::open(gate.address()).await;
        connection.send(format!("GET /public/{path} {HEAD}{te}\r\n")).await;
        let answer = connection.answer().await.unwrap();
        assert_eq!(
            (answer.text().as_str(), answer.trailers.len()),
            ("ok", expected),
            "{te} {path}"
        );
        assert_eq!(answer.header("trailer").is_some(), expected > 0, "{te} {path}");
        let te: Vec<&str> = if te.is_empty() { vec![] } else { vec!["trailers"] };
        assert_eq!(h2c.seen().pop().unwrap().header("te"), te);
    }
    // Whoever speaks HTTP/1.0 reads neither trailers nor chunks, whatever he says.
    let mut connection = Connection::open(gate.address()).await;
    let head = "GET /public/announced HTTP/1.0\r\nHost: app.example.com\r\nTE: trailers\r\n\r\n";
    connection.send(head).await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.text().as_str(), answer.header("transfer-encoding")), ("ok", None));

    let mut visitor = Http2::open(gate.address()).await;
    for path in ["announced", "silent"] {
        let answer = visitor.send(&Request::get(&format!("{APP}/public/{path}"))).await;
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())], "{path}");
    }
}
