//! The pages name every word that the program has for a refusal or a failure, and no other.

use std::collections::{BTreeMap, BTreeSet};

use super::read;
use crate::recipes::{Folder, code_spans, completed, table_rows};

/// The words of docs/reference.md under a title, with what stands beside them.
fn table(title: &str) -> BTreeMap<String, String> {
    let page = read("docs/reference.md");
    let rows = table_rows(&page, title);
    let entries = rows.iter().map(|row| (code_spans(row[0])[0].clone(), row[1].trim().to_owned()));
    entries.collect()
}

fn words(title: &str) -> BTreeSet<String> {
    table(title).into_keys().collect()
}

const REASONS: &str = "| word | status | said of |";

/// The texts of the arms of `fn name` in a source file.
fn arms(file: &str, name: &str) -> BTreeSet<String> {
    let source = read(file);
    let head = format!("fn {name}(");
    let bodies = source.split(&head).skip(1);
    let bodies = bodies.map(|rest| rest.split("\n    }\n").next().unwrap().to_owned());
    let texts = |body: String| -> Vec<String> {
        let arms = body.split("=> \"").skip(1);
        arms.map(|arm| arm.split('"').next().unwrap().to_owned()).collect()
    };
    bodies.flat_map(texts).collect()
}

/// The words that answers are made with, each with its status.
fn of_answers() -> BTreeMap<String, u16> {
    let source = read("crates/proxy/src/answers/respond.rs");
    let source = source.replace("MALFORMED,", "\"malformed\",");
    let pairs = source.split("StatusCode::").skip(1).filter_map(|rest| {
        let (status, rest) = rest.split_once(',')?;
        let word = rest.trim_start().strip_prefix('"')?.split('"').next()?;
        Some((word.to_owned(), status_of(status)?))
    });
    pairs.collect()
}

fn status_of(name: &str) -> Option<u16> {
    let known = [
        ("BAD_REQUEST", 400),
        ("FORBIDDEN", 403),
        ("NOT_FOUND", 404),
        ("METHOD_NOT_ALLOWED", 405),
        ("REQUEST_TIMEOUT", 408),
        ("EXPECTATION_FAILED", 417),
        ("MISDIRECTED_REQUEST", 421),
        ("REQUEST_HEADER_FIELDS_TOO_LARGE", 431),
        ("BAD_GATEWAY", 502),
        ("SERVICE_UNAVAILABLE", 503),
        ("GATEWAY_TIMEOUT", 504),
    ];
    known.into_iter().find(|(known, _)| *known == name).map(|(_, status)| status)
}

/// Every word that stands as `reason` in an answer or in a request's line.
fn reasons() -> BTreeSet<String> {
    let others = ["backend_unavailable", "ledger_unavailable", "visitor_left"].map(str::to_owned);
    let mut reasons = arms("crates/policy/src/access.rs", "reason");
    reasons.extend(of_answers().into_keys().chain(others));
    reasons
}

#[test]
fn the_reference_has_every_reason_with_its_status() {
    assert_eq!(words(REASONS), reasons());
    let told = table(REASONS);
    for (word, status) in of_answers() {
        let statuses = &told[&word];
        assert!(statuses.contains(&status.to_string()), "{word} is {status}, not {statuses}");
    }
}

#[test]
fn the_reference_has_every_word_for_a_cookie_a_refresh_and_a_tunnel() {
    let absent = "| word | said of |";
    let page = read("docs/reference.md");
    let of_cookies = arms("crates/session/src/no_session.rs", "reason");
    let of_refreshes = arms("crates/refresh/src/outcome.rs", "word");
    let metrics = read("crates/proxy/src/metrics.rs");
    let of_tunnels = metrics.split("TUNNEL_ENDS: ").nth(1).unwrap().split(';').nth(1).unwrap();
    let of_tunnels = of_tunnels.split('"').skip(1).step_by(2).map(str::to_owned);
    let expected: BTreeSet<String> =
        of_cookies.into_iter().chain(of_refreshes).chain(of_tunnels).collect();
    assert_eq!(words(absent), expected);
    assert_eq!(page.matches(absent).count(), 3);
}

#[test]
fn troubleshooting_names_every_word() {
    let page = read("docs/troubleshooting.md");
    for word in words(REASONS) {
        let is_heading = page.contains(&format!("\n### {word}\n"));
        let is_row = page.contains(&format!("\n| `{word}` | "));
        assert!(is_heading || is_row, "{word}");
    }
    for word in words("| word | said of |") {
        assert!(page.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn explain_answers_with_the_status_that_the_reference_tells() {
    let told = table(REASONS);
    let config = "[login]\nurl = \"https://auth.example.com/login\"\n[[app]]\n\
                  host = \"app.example.com\"\nupstream = \"http://127.0.0.1:1\"\n\
                  [[app.rule]]\npath = \"/admin\"\nroles = [\"admin\"]\n\
                  [[app.rule]]\npath = \"/closed\"\naccess = \"deny\"\n";
    let folder = Folder::new(&completed(config));
    let app = "https://app.example.com";
    let long = format!("{app}/{}", "a".repeat(17_000));
    let navigation = "Sec-Fetch-Mode: navigate";
    let mut asked = BTreeSet::new();
    for (word, status, arguments) in [
        ("no_session", 401, vec![app]),
        ("no_session", 302, vec![app, "--header", navigation]),
        ("no_session", 303, vec![app, "--header", navigation, "--method", "POST"]),
        ("role_missing", 403, vec!["https://app.example.com/admin", "--role", "a"]),
        ("denied", 403, vec!["https://app.example.com/closed", "--role", "admin"]),
        (
            "cross_site",
            403,
            vec![app, "--role", "a", "--method", "POST", "--header", "Sec-Fetch-Site: cross-site"],
        ),
        ("unknown_host", 404, vec!["https://other.example.com/"]),
        ("bad_path", 400, vec!["https://app.example.com//"]),
        ("bad_target", 400, vec!["https://app.example.com?a"]),
        ("bad_method", 400, vec![app, "--method", "get"]),
        ("method_not_allowed", 405, vec![app, "--method", "TRACE"]),
        ("bad_host", 400, vec!["https://app_example..com/"]),
        ("repeated_header", 400, vec![app, "--header", "Origin: null", "--header", "Origin: null"]),
        ("target_too_long", 414, vec![&long]),
        ("unknown_reserved_path", 404, vec!["https://app.example.com/.foregate/x"]),
    ] {
        let explained = folder.json(&[vec!["explain", "--json"], arguments].concat());
        assert_eq!((&explained["reason"], &explained["status"]), (&word.into(), &status.into()));
        assert!(told[word].contains(&status.to_string()), "{word} {status}");
        asked.insert(word.to_owned());
    }
    let of_policy = arms("crates/policy/src/access.rs", "reason");
    assert!(asked.is_superset(&of_policy), "{:?}", of_policy.difference(&asked));
}
