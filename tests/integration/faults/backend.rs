//! A backend that is not well.

use foregate_stage::Fault;
use foregate_tests::{Certificates, Request};

use super::*;
use crate::tls::Front;

/// Everybody is served as well as can be while `fault` lasts, with so many calls; and when it is
/// over the old cookie works, with one redemption.
async fn check(fault: Fault, calls: u64, calls_in_the_end: u64) {
    let site = Site::start().await;
    let gate = site.gate("memory").await;
    let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", LIFE));
    site.backend.fail(fault);
    assert_all_are_served(&gate, &ada, &bob).await;
    assert_eq!(site.counted(), (calls, 0, 0), "{fault:?}");

    site.backend.recover();
    let began = Instant::now();
    let newest = bearer_at_last(&gate, &ada).await;
    assert_eq!(bearer(&gate, &ada).await, newest, "{fault:?}: a late one");
    assert_eq!(site.counted(), (calls_in_the_end, 1, 0), "{fault:?}");
    site.tell(&format!("backend: {fault:?}"), 0, began);
}

/// Ada's token has ended and cannot be renewed; Bob's is good.
async fn assert_all_are_served(gate: &Gate, ada: &Grant, bob: &Grant) {
    let browser = visitor(gate, ada);
    let before = cookies(&browser);
    let kept = before.as_deref();
    let answer = dashboard(&browser).await;
    assert_put_off(&browser, kept, &answer);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let page = browser.navigate(&format!("{APP}/dashboard")).await;
    assert_put_off(&browser, kept, &page);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "not the login");
    let posted = Request::new("POST", &format!("{APP}/dashboard")).fetch("same-origin").body("x");
    assert_put_off(&browser, kept, &browser.send(&posted).await);

    let public = browser.navigate(&format!("{APP}/public/page")).await;
    assert_eq!((public.status, public.seen_header("authorization")), (200, None));
    assert_eq!(cookies(&browser).as_deref(), kept, "a public path keeps it, too");
    let good = format!("Bearer {}", bob.access_token);
    assert_eq!(bearer(gate, bob).await, good, "whose token is good is not kept waiting");
}

#[tokio::test]
async fn a_500_puts_off_and_signs_nobody_out() {
    check(Fault::Status(500), 1, 2).await;
}

#[tokio::test]
async fn a_503_of_somebody_in_between_puts_off_and_signs_nobody_out() {
    check(Fault::Status(503), 1, 2).await;
}

#[tokio::test]
async fn a_404_is_no_refusal() {
    check(Fault::Status(404), 1, 2).await;
}

#[tokio::test]
async fn too_many_requests_puts_off_for_as_long_as_the_backend_wants() {
    check(Fault::TooMany { retry_after: 2 }, 1, 2).await;
}

#[tokio::test]
async fn a_backend_s_wish_for_quiet_counts_up_to_thirty_seconds() {
    let site = Site::start().await;
    let gate = site.gate("memory").await;
    for (wish, told) in [(0, "1"), (7, "7"), (30, "30"), (86_400, "30")] {
        site.backend.fail(Fault::TooMany { retry_after: wish });
        let ada = site.grant("ada", ENDED);
        let answer = dashboard(&visitor(&gate, &ada)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some(told)), "{wish}");
        let calls = site.counted().0;
        assert_eq!(dashboard(&visitor(&gate, &ada)).await.status, 503);
        assert_eq!(site.counted().0, calls, "{wish}: it is left in peace");
    }
}

#[tokio::test]
async fn a_page_in_place_of_an_answer_signs_nobody_out() {
    check(Fault::Garbage, 1, 2).await;
}

#[tokio::test]
async fn a_success_without_a_token_signs_nobody_out() {
    check(Fault::NoToken, 1, 2).await;
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    check(Fault::Huge { bytes: 8 << 20 }, 1, 2).await;
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    check(Fault::Endless, 1, 2).await;
}

/// The second call is the one try more that a broken connection gets.
#[tokio::test]
async fn a_connection_that_closes_unanswered_signs_nobody_out() {
    check(Fault::CloseBefore, 2, 3).await;
}

/// What was asked for is still on its way, and is heard when it comes.
#[tokio::test]
async fn a_backend_that_hangs_keeps_visitors_for_no_longer_than_its_time_out() {
    check(Fault::Hold, 1, 1).await;
}

/// Three time-outs long it is listened for; then it is as if it had never been asked.
#[tokio::test]
async fn a_backend_that_never_answers_is_asked_again_in_the_end() {
    check(Fault::Delay(Duration::from_secs(3600)), 1, 2).await;
}

#[tokio::test]
async fn an_answer_that_is_slow_but_in_time_is_waited_for() {
    let site = Site::start().await;
    let gate = site.gate("memory").await;
    let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", LIFE));
    site.backend.fail(Fault::Delay(Duration::from_millis(1500)));
    let began = Instant::now();
    let browser = visitor(&gate, &ada);
    let public = async {
        while site.counted().0 == 0 {
            tokio::task::yield_now().await;
        }
        let page = visitor(&gate, &ada).navigate(&format!("{APP}/public/page")).await;
        assert_eq!((page.status, page.seen_header("authorization")), (200, None));
        bearer(&gate, &bob).await;
        assert_eq!(site.counted(), (1, 0, 0), "nobody of these has waited for it");
    };
    let (answer, ()) = tokio::join!(dashboard(&browser), public);
    assert_eq!(answer.status, 200);
    assert_eq!(site.counted(), (1, 1, 0));
    site.tell("backend: slow by 1.5 s", 0, began);
}

#[tokio::test]
async fn tokens_that_call_themselves_a_page_are_tokens() {
    let site = Site::start().await;
    let gate = site.gate("memory").await;
    let (ada, began) = (site.grant("ada", ENDED), Instant::now());
    site.backend.fail(Fault::WrongType);
    bearer(&gate, &ada).await;
    assert_eq!(site.counted(), (1, 1, 0));
    site.tell("backend: WrongType", 0, began);
}

/// The unknown outcome: the token is spent, and its successor was lost on its way.
#[tokio::test]
async fn an_answer_that_a_lenient_backend_has_lost_is_had_by_asking_again() {
    for fault in [Fault::CloseAfter, Fault::CloseAmid] {
        let site = Site::lenient().await;
        let gate = site.gate("memory").await;
        let (ada, began) = (site.grant("ada", ENDED), Instant::now());
        site.backend.fail_times(1, fault);
        let newest = bearer(&gate, &ada).await;
        assert_eq!(bearer(&gate, &ada).await, newest);
        assert_eq!(site.counted(), (2, 2, 1), "{fault:?}");
        site.tell(&format!("lenient backend: {fault:?}, once"), 0, began);
    }
}

#[tokio::test]
async fn a_lenient_backend_that_loses_one_answer_after_the_other_signs_nobody_out() {
    for fault in [Fault::CloseAfter, Fault::CloseAmid] {
        let site = Site::lenient().await;
        let gate = site.gate("memory").await;
        let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", LIFE));
        site.backend.fail(fault);
        assert_all_are_served(&gate, &ada, &bob).await;
        assert_eq!(site.counted(), (2, 2, 1), "{fault:?}");
        site.backend.recover();
        let began = Instant::now();
        bearer_at_last(&gate, &ada).await;
        assert_eq!(site.counted(), (3, 3, 2), "{fault:?}");
        site.tell(&format!("lenient backend: {fault:?}, twice"), 0, began);
    }
}

/// No client can repair this. It is tried once more, and said in the log.
#[tokio::test]
async fn an_answer_that_a_strict_backend_has_lost_is_a_session_lost_and_the_log_says_why() {
    for fault in [Fault::CloseAfter, Fault::CloseAmid] {
        let site = Site::start().await;
        let gate = site.gate("memory").await;
        let (ada, began) = (site.grant("ada", ENDED), Instant::now());
        site.backend.fail_times(1, fault);
        assert_eq!(dashboard(&visitor(&gate, &ada)).await.status, 401, "{fault:?}");
        assert_eq!(site.counted(), (2, 1, 1), "{fault:?}: once more, and no more than that");
        gate.logged(|log| log.contains("an earlier answer was lost on its way")).await;
        site.tell(&format!("strict backend: {fault:?}, once"), 1, began);
    }
}

#[tokio::test]
async fn a_backend_whose_certificate_is_no_good_gets_no_token_and_signs_nobody_out() {
    let covering = || Certificates::covering(&["127.0.0.1"]);
    let (ours, others, site) = (covering(), covering(), Site::start().await);
    let behind = site.backend.address();
    let good = Front::start(behind, &ours, &[]).await;
    let strange = Front::start(behind, &others, &[]).await;
    let url = |port: u16| format!("https://127.0.0.1:{port}/auth/refreshToken");
    for (what, wrong) in [("a stranger's certificate", strange.port()), ("no TLS", behind.port())] {
        let trusted = ours.authority().to_str().unwrap();
        let gate = site.gate_with("memory", &url(wrong), &[("SSL_CERT_FILE", trusted)]).await;
        let (ada, before) = (site.grant("ada", ENDED), site.counted());
        let browser = visitor(&gate, &ada);
        let kept = cookies(&browser);
        assert_put_off(&browser, kept.as_deref(), &dashboard(&browser).await);
        let page = browser.navigate(&format!("{APP}/dashboard")).await;
        assert_put_off(&browser, kept.as_deref(), &page);
        assert_eq!(browser.fetch(&format!("{APP}/public/page")).await.status, 200);
        bearer(&gate, &site.grant("bob", LIFE)).await;
        assert_eq!(site.counted(), before, "{what}: no token has left");

        std::fs::write(gate.config_file(), site.config("memory", &url(good.port()))).unwrap();
        gate.signal("HUP");
        let began = Instant::now();
        bearer_at_last(&gate, &ada).await;
        assert_eq!(site.counted(), (before.0 + 1, before.1 + 1, 0), "{what}");
        site.tell(&format!("backend: {what}"), 0, began);
    }
}
