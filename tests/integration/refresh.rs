//! Access tokens that end while visitors have them.

use std::time::Duration;

use foregate_stage::Fault;
use foregate_tests::{Browser, Connection, Request};

use crate::world::{APP, LIFE, World, session_cookie};

const ENDED: Duration = Duration::ZERO;

/// The token that the app saw, by what the origin answers.
async fn bearer(browser: &Browser, path: &str) -> String {
    let answer = browser.fetch(&format!("{APP}{path}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.seen_header("authorization").expect("a token reached the app")
}

#[tokio::test]
async fn an_ended_token_is_renewed_before_the_app_sees_the_request() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", ENDED);
    let before = ada.cookies("app.example.com");
    let answer = ada.fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.status, 200);
    let seen = world.last_seen();
    assert_ne!(seen.header("authorization"), [format!("Bearer {}", grant.access_token)]);
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    assert!(answer.headers_named("set-cookie")[0].contains("Domain=.example.com"));
    let after = ada.cookies("app.example.com");
    assert_ne!(before, after, "the visitor has the new session");
    assert_eq!(seen.header("cookie"), [after.unwrap()], "and the app saw the same one");

    let again = ada.fetch(&format!("{APP}/dashboard")).await;
    assert!(again.headers_named("set-cookie").is_empty(), "the new cookie is fresh");
    assert_eq!(world.backend.counters().redemptions, 1);
}

#[tokio::test]
async fn five_hundred_requests_with_one_ended_cookie_redeem_once() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", ENDED);
    let cookie = session_cookie(&grant);
    world.backend.fail(Fault::Delay(Duration::from_millis(300)));
    let mut visits = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let browser = world.stranger();
        browser.set_cookies("example.com", &cookie);
        visits.spawn(async move { bearer(&browser, "/dashboard").await });
    }
    let tokens = visits.join_all().await;
    assert_eq!(tokens.len(), 500);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "all of them the same new token");
    let counters = world.backend.counters();
    assert_eq!((counters.redemptions, counters.attempts, counters.reuses), (1, 1, 0));
    drop(ada);
}

#[tokio::test]
async fn late_requests_with_an_old_cookie_get_the_newest_token() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", ENDED);
    let late = world.stranger();
    late.set_cookies("example.com", &session_cookie(&grant));
    let newest = bearer(&ada, "/dashboard").await;
    assert_eq!(bearer(&late, "/dashboard").await, newest);
    assert_eq!(bearer(&late, "/public/page").await, newest);
    let counters = world.backend.counters();
    assert_eq!((counters.redemptions, counters.reuses), (1, 0));
}

#[tokio::test]
async fn a_visitor_who_hangs_up_does_not_lose_the_new_token() {
    let world = World::start().await;
    let (_, grant) = world.visitor("ada", ENDED);
    let cookie = session_cookie(&grant);
    world.backend.fail(Fault::Hold);
    let request =
        format!("GET /dashboard HTTP/1.1\r\nHost: app.example.com\r\nCookie: {cookie}\r\n\r\n");
    let mut gone = Connection::open(world.gate.address()).await;
    gone.send(request).await;
    while world.backend.counters().attempts == 0 {
        tokio::task::yield_now().await;
    }
    drop(gone);
    world.backend.recover();
    let second = world.stranger();
    second.set_cookies("example.com", &cookie);
    bearer(&second, "/dashboard").await;
    let counters = world.backend.counters();
    assert_eq!((counters.redemptions, counters.reuses), (1, 0));
}

#[tokio::test]
async fn a_token_near_its_end_is_used_and_renewed_behind_the_request() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", Duration::from_secs(40));
    world.backend.fail(Fault::Hold);
    let old = format!("Bearer {}", grant.access_token);
    assert_eq!(bearer(&ada, "/dashboard").await, old, "nobody waits for a refresh ahead of time");
    // The token has 40 s, so half of its life is the margin, and it is not due yet.
    assert_eq!(world.backend.counters().attempts, 0);

    // An opaque token tells nothing of its life, so `ahead` counts whole.
    let due = world.backend.grant("ada@example.com", LIFE).unwrap();
    let mut claims = due.session_claims(Duration::from_secs(3600));
    claims["accessToken"] = "opaque".into();
    claims["accessTokenExpiry"] = (foregate_stage::unix_millis() + 50_000).into();
    let cookie = foregate_stage::seal_v4(
        foregate_stage::SECRET,
        &claims.to_string(),
        foregate_stage::random(),
    );
    let bob = world.stranger();
    bob.set_cookies("example.com", &format!("{}={cookie}", crate::world::COOKIE));
    let old = "Bearer opaque";
    assert_eq!(bearer(&bob, "/dashboard").await, old);
    while world.backend.counters().attempts == 0 {
        tokio::task::yield_now().await;
    }
    world.backend.recover();
    let new = loop {
        let token = bearer(&bob, "/dashboard").await;
        if token != old {
            break token;
        }
    };
    assert_eq!(bearer(&bob, "/dashboard").await, new);
    assert_eq!(world.backend.counters().redemptions, 1);
}

#[tokio::test]
async fn a_backend_that_is_away_signs_nobody_out() {
    let world = World::start().await;
    let faults =
        [Fault::Status(500), Fault::Garbage, Fault::TooMany { retry_after: 7 }, Fault::CloseBefore];
    for fault in faults {
        world.backend.fail(fault);
        let (ada, _) = world.visitor("ada", ENDED);
        let before = ada.cookies("app.example.com");
        let answer = ada.fetch(&format!("{APP}/dashboard")).await;
        assert_eq!(answer.status, 503, "{fault:?}");
        assert!(answer.header("retry-after").is_some(), "{fault:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let page = ada.navigate(&format!("{APP}/dashboard")).await;
        assert_eq!(page.status, 503, "{fault:?}: a page, not the login");
        assert_eq!(ada.cookies("app.example.com"), before, "{fault:?}: the cookie is kept");

        let public = ada.navigate(&format!("{APP}/public/page")).await;
        assert_eq!(public.status, 200, "{fault:?}: a public path does not wait");
        assert!(world.last_seen().header("authorization").is_empty());

        let (bob, _) = world.visitor("bob", LIFE);
        bearer(&bob, "/dashboard").await;
    }
}

#[tokio::test]
async fn only_a_refusal_of_the_backend_ends_a_session() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", ENDED);
    // Another program redeems the token behind our back.
    redeem(&world, &grant.refresh_token).await;
    let answer = ada.navigate(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.status, 302);
    assert!(answer.header("location").unwrap().starts_with("http://auth.example.com/login?"));
    assert_eq!(ada.cookies("app.example.com"), None, "the session's cookie is gone");
    let refused = world.backend.counters().refused;

    let copy = world.stranger();
    copy.set_cookies("example.com", &session_cookie(&grant));
    assert_eq!(copy.fetch(&format!("{APP}/dashboard")).await.status, 401);
    assert_eq!(world.backend.counters().refused, refused, "a refused token is not tried again");
}

async fn redeem(world: &World, token: &str) {
    let body = format!("{{\"token\":\"{token}\"}}");
    let request = format!(
        "POST /auth/refreshToken HTTP/1.1\r\nHost: backend\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = Connection::open(world.backend.address()).await;
    connection.send(request).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_that_shared_caches_may_keep_carries_no_session() {
    let world = World::start().await;
    let script = |cache: &str| foregate_stage::Script::answer("200 OK", &[cache], "x");
    world.origin.script("/kept", script("Cache-Control: public, max-age=60"));
    world.origin.script("/mine", script("Cache-Control: no-cache"));
    let (ada, _) = world.visitor("ada", ENDED);
    let kept = ada.fetch(&format!("{APP}/kept")).await;
    assert!(kept.headers_named("set-cookie").is_empty());
    assert_eq!(kept.header("cache-control"), Some("public, max-age=60"));
    let mine = ada.fetch(&format!("{APP}/mine")).await;
    assert_eq!(mine.headers_named("set-cookie").len(), 1, "the next answer brings it");
    assert_eq!(mine.header("cache-control"), Some("private, no-store"));
}

#[tokio::test]
async fn the_apps_own_word_about_the_session_cookie_wins() {
    let world = World::start().await;
    let line = "Set-Cookie: next-auth.session-token=; Path=/; Max-Age=0";
    world.origin.script("/clears", foregate_stage::Script::answer("200 OK", &[line], "x"));
    let (ada, _) = world.visitor("ada", ENDED);
    let answer = ada.fetch(&format!("{APP}/clears")).await;
    assert_eq!(answer.headers_named("set-cookie"), [&line["Set-Cookie: ".len()..]]);
}

#[tokio::test]
async fn a_chunked_session_is_renewed_and_its_leftovers_are_cleared() {
    let world = World::start().await;
    let grant = world.backend.grant("ada@example.com", ENDED).unwrap();
    let mut claims = grant.session_claims(Duration::from_secs(3600));
    claims["padding"] = "x".repeat(6000).into();
    let sealed = foregate_stage::seal_v4(
        foregate_stage::SECRET,
        &claims.to_string(),
        foregate_stage::random(),
    );
    let header = foregate_stage::cookie_header(crate::world::COOKIE, &sealed);
    let ada = world.stranger();
    ada.set_cookies("example.com", &header);
    let answer = ada.send(&Request::get(&format!("{APP}/dashboard")).fetch("same-origin")).await;
    assert_eq!(answer.status, 200);
    let names: Vec<_> = answer
        .headers_named("set-cookie")
        .iter()
        .map(|line| line.split('=').next().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), header.split("; ").count(), "as many chunks as came: {names:?}");
    assert!(names.iter().all(|name| name.starts_with("next-auth.session-token.")), "{names:?}");
    bearer(&ada, "/dashboard").await;
    assert_eq!(world.backend.counters().redemptions, 1);
}

#[tokio::test]
async fn an_app_never_sees_the_token_that_is_being_redeemed() {
    let world = World::start().await;
    world.backend.fail(Fault::Hold);
    let (ada, _) = world.visitor("ada", ENDED);
    assert_eq!(ada.fetch(&format!("{APP}/public/page")).await.status, 200);
    let seen = world.last_seen();
    assert!(seen.header("authorization").is_empty());
    assert!(seen.header("cookie").is_empty(), "an app that refreshes by itself would spend it");
    world.backend.recover();
    let token = bearer(&ada, "/dashboard").await;
    assert_eq!(bearer(&ada, "/public/page").await, token);
    let counters = world.backend.counters();
    assert_eq!((counters.redemptions, counters.reuses), (1, 0));
}

#[tokio::test]
async fn a_session_that_is_over_is_over_on_public_paths_too() {
    let world = World::start().await;
    let (ada, grant) = world.visitor("ada", ENDED);
    let copy = world.stranger();
    copy.set_cookies("example.com", &session_cookie(&grant));
    let sign_out = Request::new("POST", &format!("{APP}/.foregate/sign-out"));
    assert_eq!(ada.send(&sign_out).await.status, 204);
    let answer = copy.fetch(&format!("{APP}/public/page")).await;
    assert_eq!(answer.status, 200);
    assert!(world.last_seen().header("cookie").is_empty());
    assert_eq!(copy.cookies("app.example.com"), None, "the copy is cleared");
}

#[tokio::test]
async fn roles_are_decided_on_the_new_token() {
    let world = World::start().await;
    // A session that was sealed when Ada was no admin yet: its token names no role.
    let grant = world.backend.grant("ada@example.com", ENDED).unwrap();
    let session = |refresh_token: &str| {
        let claims = serde_json::json!({
            "sub": "u-1", "accessToken": "opaque", "accessTokenExpiry": 1_000_000_000_000_u64,
            "refreshToken": refresh_token, "exp": 4_000_000_000_u64,
        });
        let sealed = foregate_stage::seal_v4(
            foregate_stage::SECRET,
            &claims.to_string(),
            foregate_stage::random(),
        );
        let browser = world.stranger();
        browser.set_cookies("example.com", &format!("{}={sealed}", crate::world::COOKIE));
        browser
    };
    assert_eq!(session(&grant.refresh_token).fetch(&format!("{APP}/admin")).await.status, 200);

    // What the backend says of the session comes before what its old token lacks.
    world.backend.fail(Fault::Status(500));
    let bob = world.backend.grant("bob@example.com", ENDED).unwrap();
    assert_eq!(session(&bob.refresh_token).fetch(&format!("{APP}/admin")).await.status, 503);
    world.backend.recover();
    let dead = session("no-such-token");
    assert_eq!(dead.navigate(&format!("{APP}/admin")).await.status, 302);
    assert_eq!(dead.cookies("app.example.com"), None);
}
