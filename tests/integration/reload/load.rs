//! Reloads by the hundred, under load: nobody is refused, and nobody's session is touched.

use std::time::Duration;

use foregate_stage::{Origin, SECRET, Script, Step, cookie_header, random, seal_v4};
use foregate_tests::{Connection, Gate};
use serde_json::json;

use super::{edit, taken_over, told};
use crate::drain::visitors::{Visitors, Wish};
use crate::world::{ANY, APP, COOKIE, World};

const OTHER: &str = "another-9S0cW6oM2yV0v7VtV8uS1y2mN5zD";

/// The configuration before the `number`th reload: rules, their order, the order of secrets and a
/// header differ from one to the next.
fn version(upstream: &str, number: usize) -> String {
    let secrets = match number % 2 {
        0 => format!("[\"{SECRET}\", \"{OTHER}\"]"),
        _ => format!("[\"{OTHER}\", \"{SECRET}\"]"),
    };
    let rule = |path: &str, more: &str| format!("[[app.rule]]\npath = \"{path}\"\n{more}\n");
    let (admin, pages) =
        (rule("/admin/:path*", "roles = [\"admin\"]"), rule("/page", "access = \"session\""));
    let rules = match number % 3 {
        0 => [admin, pages].concat(),
        1 => [pages, admin].concat(),
        _ => rule("/only-here", "access = \"public\""),
    };
    format!(
        "[session]\nsecrets = {secrets}\ndomain = \".example.com\"\nsecure = false\n[[app]]\n\
         host = \"app.example.com\"\nupstream = \"{upstream}\"\n\
         headers = {{ \"X-Generation-{number}\" = \"session.sub\" }}\n{rules}\
         [server]\nhttp = \"127.0.0.1:0\"\nworkers = 2\n"
    )
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request_and_touch_no_session() {
    let origin = Origin::start(ANY).await.unwrap();
    let gate = Gate::start(&version(&origin.url(), 0)).await;
    let claims = json!({
        "sub": "ada", "accessToken": "opaque", "accessTokenExpiry": 4_000_000_000_u64,
        "exp": 4_000_000_000_u64, "iat": 1,
    });
    let token = seal_v4(SECRET, &claims.to_string(), random());
    let wish = Wish {
        gate: gate.address(),
        path: "/page",
        cookie: Some(cookie_header(COOKIE, &token)),
        // The app saw the session, and nothing was set anew.
        expected: "Bearer opaque",
    };
    let visitors = Visitors::come(&wish, 4, 2);
    visitors.answered_more(50).await;
    let (mut good, mut broken) = (0, 0);
    for number in 1..=100 {
        let text = version(&origin.url(), number);
        let text = if number % 7 == 3 { text.replace("host =", "hots =") } else { text };
        std::fs::write(gate.config_file(), &text).unwrap();
        gate.signal("HUP");
        if number % 7 == 3 {
            broken += 1;
            gate.logged(|_| {
                told(&gate, "not reloaded: the configuration in force stays").len() >= broken
            })
            .await;
        } else {
            good += 1;
            gate.logged(|_| told(&gate, "reloaded").len() >= good).await;
        }
        visitors.answered_more(2).await;
    }
    assert_eq!((good, broken), (86, 14));
    assert!(visitors.leave().await > 250);
    let forgotten = |name: &str| name.starts_with("x-generation-");
    let last = origin.seen().pop().unwrap();
    let generations = last.headers.iter().filter(|(name, _)| forgotten(&name.to_lowercase()));
    assert_eq!(generations.count(), 1, "the latest configuration alone counts");
}

#[tokio::test]
async fn a_request_ends_under_the_rules_that_it_began_with() {
    let world = World::start().await;
    let pause = Step::Pause(Duration::from_millis(1500));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec();
    let steps = [pause.clone(), Step::Write(answer), pause, Step::Write(b"late".to_vec())];
    world.origin.script("/public/late", Script::new(steps));
    let mut visitor = Connection::open(world.gate.address()).await;
    visitor.send("GET /public/late HTTP/1.1\r\nHost: app.example.com\r\n\r\n").await;
    while world.origin.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let (open, shut) = (r#""/public/:path*"]"#, r#""/other/:path*"]"#);
    edit(&world.gate, open, shut);
    world.gate.signal("HUP");
    taken_over(&world.gate, 2).await;
    let late = format!("{APP}/public/late");
    assert_eq!(world.stranger().fetch(&late).await.status, 401);
    let answer = visitor.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
    // The connection lives on, and its next request is a new one.
    visitor.send("GET /public/late HTTP/1.1\r\nHost: app.example.com\r\n\r\n").await;
    assert_eq!(visitor.answer().await.unwrap().status, 401);
}
