//! What a reload opens wider is named, pattern by pattern.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{HOST, app, compile, rule, session, spec};
use foregate_policy::{
    Access, AppSpec, ConditionSpec, Head, MatcherSpec, Opened, PolicySpec, RawHead, Rules,
};
use foregate_session::ClaimPath;
use proptest::prelude::*;

const EVERY_OTHER: &str = "every other path";

fn compiled(spec: &PolicySpec) -> Rules {
    Rules::compile(spec).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

/// Each as `pattern: was -> is`.
fn told(opened: &[Opened]) -> Vec<String> {
    let line = |it: &Opened| {
        let pattern = it.pattern.as_deref().unwrap_or(EVERY_OTHER);
        format!("{pattern}: {} -> {}", it.was, it.is)
    };
    opened.iter().map(line).collect()
}

fn between(old: AppSpec, new: AppSpec) -> Vec<Opened> {
    compile(vec![new]).0.opened_since(&compile(vec![old]).0)
}

/// From rules to rules, in an app that asks for a session.
fn check(old: &[&str], new: &[&str], expected: &[&str]) {
    let rules = |texts| app(HOST, Access::Session, texts);
    assert_eq!(told(&between(rules(old), rules(new))), expected, "{old:?} -> {new:?}");
}

#[test]
fn a_rule_that_asks_for_less_is_named() {
    check(&["session * /a"], &["public * /a"], &["/a: session -> public"]);
    check(&["deny * /a"], &["public * /a"], &["/a: deny -> public"]);
    check(&["deny * /a"], &["session * /a"], &["/a: deny -> session"]);
    check(&["deny * /a"], &["admin * /a"], &["/a: deny -> role admin"]);
    check(&["admin * /a"], &["session * /a"], &["/a: role admin -> session"]);
    check(&["admin * /a"], &["admin,staff * /a"], &["/a: role admin -> role admin or staff"]);
    check(&["admin * /a"], &["staff * /a"], &["/a: role admin -> role staff"]);
    // Nobody passes who did not before.
    check(&["public * /a"], &["session * /a"], &[]);
    check(&["session * /a"], &["admin * /a"], &[]);
    check(&["admin,staff * /a"], &["admin * /a"], &[]);
    check(&["session * /a"], &["deny * /a"], &[]);
    check(&["admin * /a"], &["admin * /a"], &[]);
}

#[test]
fn a_guard_that_is_gone_or_shorter_is_named() {
    check(&["admin * /a/:path*"], &[], &["/a/:path*: role admin -> session"]);
    check(&["admin * /a/:path*"], &["admin * /a"], &["/a/:path*: role admin -> session"]);
    check(&["admin * /a/:path*"], &["admin * /a/:path+"], &["/a/:path*: role admin -> session"]);
    check(&["admin * /a /b"], &["admin * /a"], &["/b: role admin -> session"]);
    check(&["admin * /n/:id(\\d+)"], &[], &["/n/:id(\\d+): role admin -> session"]);
    check(&["admin * /:p(a|b)"], &["admin * /a"], &["/:p(a|b): role admin -> session"]);
    check(&["admin * /a"], &["admin * /a/:path*"], &[]);
    check(&["admin * /a", "session * /b"], &["session * /b", "admin * /a"], &[]);
}

#[test]
fn what_a_pattern_excludes_no_more_is_open() {
    let all_but = |word: &str| format!("public * /((?!{word}).*)");
    for later in ["administrator", "admin/", "admin$"] {
        let (old, new) = (all_but("admin"), all_but(later));
        let rules = |text: &str| app(HOST, Access::Session, &[text]);
        let found = between(rules(&old), rules(&new));
        assert!(!found.is_empty(), "{old} -> {new}");
        assert!(found.iter().all(|it| it.was == "session" && it.is == "public"), "{found:?}");
    }
}

#[test]
fn a_public_rule_above_a_guard_opens_what_it_takes() {
    check(
        &["admin * /a/b/:path*"],
        &["public * /a/:path*", "admin * /a/b/:path*"],
        &["/a/:path*: session -> public", "/a/b/:path*: role admin -> public"],
    );
    // They meet in `/a/b` alone.
    let rules = |texts| app(HOST, Access::Public, texts);
    let (guard, open) = ("admin * /:any/b", "public * /a/:any");
    let found = between(rules(&[guard, open]), rules(&[open, guard]));
    assert_eq!(told(&found), ["/a/:any: role admin -> public"]);
    assert_eq!((&*found[0].example, found[0].app, found[0].rule), ("GET /a/b", 0, Some(0)));
    check(
        &["session * /x/:p*"],
        &["public * /x/about", "session * /x/:p*"],
        &["/x/about: session -> public"],
    );
}

#[test]
fn methods_that_a_guard_no_longer_names_are_found() {
    let shown = |old: &str, new: &str| {
        let rules = |text| app(HOST, Access::Session, &[text]);
        let found = between(rules(old), rules(new));
        found.into_iter().map(|it| it.example).collect::<Vec<_>>()
    };
    assert_eq!(shown("admin * /a", "admin POST /a"), ["GET /a"]);
    assert_eq!(shown("admin POST,PUT /a", "admin POST /a"), ["PUT /a"]);
    assert_eq!(shown("admin * /a", "admin GET,POST,DELETE,PATCH /a"), ["PUT /a"]);
    assert_eq!(shown("public GET /a", "public * /a"), ["POST /a"]);
    assert_eq!(shown("admin POST /a", "admin * /a"), [""; 0]);
}

#[test]
fn an_app_that_asks_for_less_where_no_rule_speaks_is_named_once() {
    let found = between(
        app(HOST, Access::Session, &["admin * /a"]),
        app(HOST, Access::Public, &["admin * /a"]),
    );
    assert_eq!(told(&found), ["every other path: session -> public"]);
    let found = between(app(HOST, Access::Deny, &[]), app(HOST, Access::Session, &[]));
    assert_eq!(told(&found), ["every other path: deny -> session"]);
}

#[test]
fn a_matcher_that_guards_less_is_named() {
    let guarding = |sources: &[&str]| {
        let entry =
            |source: &&str| MatcherSpec { source: (*source).to_owned(), ..Default::default() };
        let matcher = Some(sources.iter().map(entry).collect());
        AppSpec { matcher, ..app(HOST, Access::Session, &[]) }
    };
    let check = |old: &[&str], new: &[&str], expected: &[&str]| {
        assert_eq!(told(&between(guarding(old), guarding(new))), expected, "{old:?} -> {new:?}");
    };
    check(&["/a/:p*", "/b/:p*"], &["/a/:p*"], &["/b/:p*: session -> public"]);
    check(&["/a/:p*"], &["/a"], &["/a/:p*: session -> public"]);
    let (wide, narrow) = ("/((?!api|_next).*)", "/((?!api|_next|secret).*)");
    check(&[wide], &[narrow], &["/((?!api|_next|secret).*): session -> public"]);
    check(&[narrow], &[wide], &[]);
    check(&["/a"], &["/a", "/b"], &[]);
    let mut on_one_host = guarding(&["/a"]);
    on_one_host.matcher.as_mut().unwrap()[0].has = vec![ConditionSpec {
        kind: "host".to_owned(),
        key: None,
        value: Some("other.example.com".to_owned()),
    }];
    assert_eq!(told(&between(guarding(&["/a"]), on_one_host)), ["/a: session -> public"]);
}

#[test]
fn layout_and_letter_case_open_too() {
    let plain = app(HOST, Access::Public, &["admin * /a"]);
    let exact = AppSpec { case_sensitive: true, ..plain.clone() };
    let found = between(plain.clone(), exact);
    assert_eq!(
        (told(&found), &*found[0].example),
        (vec!["/a: role admin -> public".to_owned()], "GET /A")
    );
    let below = AppSpec { base_path: "/docs".to_owned(), ..plain.clone() };
    let found = between(below, plain);
    assert_eq!(found[0].example, "GET /docs/a");
}

#[test]
fn a_host_that_falls_to_another_app_is_asked_about() {
    let own = app("a.example.com", Access::Session, &["admin * /a"]);
    let rest = app("*.example.com", Access::Public, &[]);
    let old = compile(vec![rest.clone(), own]).0;
    let found = compile(vec![rest]).0.opened_since(&old);
    assert_eq!(told(&found), ["/a: role admin -> public", "every other path: session -> public"]);
}

#[test]
fn an_app_that_is_new_is_told_of_where_it_is_public() {
    let first = app("a.example.com", Access::Session, &[]);
    let second = app("b.example.com", Access::Session, &["public * /about", "admin * /admin"]);
    let old = compile(vec![first.clone()]).0;
    let found = compile(vec![first, second]).0.opened_since(&old);
    assert_eq!(told(&found), ["/about: no app -> public"]);
    assert_eq!((found[0].app, found[0].rule), (1, Some(0)));
}

#[test]
fn settings_of_all_apps_that_admit_more_are_named() {
    let old = spec(vec![app(HOST, Access::Session, &[])]);
    let mut new = old.clone();
    new.csrf = false;
    new.allowed_origins.push("https://new.example".to_owned());
    new.role_claims.push(ClaimPath::parse("session.groups").unwrap());
    new.role_flags = vec![("staff".to_owned(), ClaimPath::parse("session.staff").unwrap())];
    let told = compiled(&new).loosened_since(&compiled(&old));
    let told: Vec<String> = told.iter().map(|(key, what)| format!("{key}: {what}")).collect();
    let expected = [
        "csrf.enabled: false",
        "csrf.allowed_origins: https://new.example",
        "roles.claims: session.groups",
        "roles.flags: staff = session.staff",
    ];
    assert_eq!(told, expected);
    assert!(
        compiled(&old).loosened_since(&compiled(&new)).iter().all(|(key, _)| *key == "roles.flags")
    );
}

const PATTERNS: &[&str] = &[
    "/",
    "/a",
    "/a/b",
    "/a/:p",
    "/a/:p*",
    "/a/:p+",
    "/:p",
    "/:p*",
    "/:p/b",
    "/:p/b/:q*",
    "/b/:p?",
    "/a/:p(\\d+)",
    "/((?!a|b/c).*)",
    "/a(.*)",
];

fn one_rule() -> impl Strategy<Value = String> {
    let asks = prop::sample::select(vec!["public", "session", "deny", "admin", "admin,staff"]);
    let methods = prop::sample::select(vec!["*", "*", "GET", "POST,PUT"]);
    let rule = (asks, methods, prop::sample::select(PATTERNS.to_vec()));
    rule.prop_map(|(asks, methods, pattern)| format!("{asks} {methods} {pattern}"))
}

/// Rules, and the same after one edit.
fn edited() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let rules = prop::collection::vec(one_rule(), 1..5);
    (rules, one_rule(), any::<prop::sample::Index>(), 0..4).prop_map(|(old, rule, at, edit)| {
        let mut new = old.clone();
        let at = at.index(old.len());
        match edit {
            0 => drop(new.remove(at)),
            1 => new.insert(at, rule),
            2 => new[at] = rule,
            _ => new.swap(0, at),
        }
        (old, new)
    })
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "c", "1", "z"]);
    prop::collection::vec(segment, 0..4).prop_map(|segments| match segments.is_empty() {
        true => "/".to_owned(),
        false => segments.iter().map(|segment| format!("/{segment}")).collect(),
    })
}

fn passes(rules: &Rules, method: &str, path: &str, claims: Option<&str>) -> bool {
    let head = Head::parse(RawHead { method, ..common::get(path) }).unwrap();
    let Ok(route) = rules.route(&head) else { return false };
    match claims {
        Some(claims) => route.decide(&head, &session(claims)).is_ok(),
        None => route.without_session().is_ok(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_visitor_is_let_in_without_a_word(
        (old, new) in edited(),
        guarded in any::<bool>(),
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
        path in path(),
        claims in prop::sample::select(vec![
            None,
            Some(r#"{"sub":"ann"}"#),
            Some(r#"{"sub":"ann","role":"admin"}"#),
            Some(r#"{"sub":"ann","role":"staff"}"#),
        ]),
    ) {
        let of = |texts: &[String]| {
            let access = if guarded { Access::Session } else { Access::Public };
            let mut app = app(HOST, access, &[]);
            app.rules = texts.iter().map(|text| rule(text)).collect();
            compile(vec![app]).0
        };
        let (before, after) = (of(&old), of(&new));
        let told = after.opened_since(&before);
        for opened in &told {
            prop_assert_ne!(&opened.was, &opened.is, "{:?}", opened);
        }
        let opened = |claims| passes(&after, method, &path, claims) && !passes(&before, method, &path, claims);
        if opened(claims) {
            prop_assert!(!told.is_empty(), "{method} {path} {claims:?}");
        }
    }
}
