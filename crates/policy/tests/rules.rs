//! Who passes, and why not: hosts, methods, roles, readings, same-site.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{HOST, access, app, compile, get, rules, session, spec};
use foregate_policy::{
    Access, AppSpec, ConditionSpec, Field, Head, Host, MatcherSpec, RawHead, Refusal, Rules,
};

fn decide(rules: &Rules, raw: RawHead<'_>, claims: Option<&str>) -> Result<bool, Refusal> {
    let head = Head::parse(raw)?;
    let route = rules.route(&head)?;
    let pass = match claims {
        Some(claims) => route.decide(&head, &session(claims))?,
        None => route.without_session()?,
    };
    Ok(pass.as_session())
}

const ANN: Option<&str> = Some(r#"{"sub":"ann"}"#);
const ADMIN: Option<&str> = Some(r#"{"sub":"eve","role":"admin"}"#);

#[test]
fn the_first_rule_that_matches_path_and_method_speaks() {
    let rules = rules(
        Access::Deny,
        &[
            "public * /about",
            "public GET /posts/:path*",
            "session POST,PUT /posts/:path*",
            "session * /a",
        ],
    );
    let check = |method, target, expected: Result<Option<usize>, Refusal>| {
        let head = Head::parse(RawHead { method, ..get(target) }).unwrap();
        let route = rules.route(&head).unwrap();
        let result = route.decide(&head, &session(ANN.unwrap())).map(|pass| pass.rule());
        assert_eq!(result, expected, "{method} {target}");
    };
    check("GET", "/about", Ok(Some(0)));
    check("DELETE", "/about/", Ok(Some(0)));
    check("GET", "/posts/1?x=/about", Ok(Some(1)));
    check("HEAD", "/posts", Ok(Some(1)));
    check("POST", "/posts", Ok(Some(2)));
    check("DELETE", "/posts", Err(Refusal::Denied));
    check("OPTIONS", "/posts", Err(Refusal::Denied));
    check("GET", "/other", Err(Refusal::Denied));
    check("GET", "/", Err(Refusal::Denied));
}

#[test]
fn any_one_role_is_enough_and_roles_need_a_session() {
    let rules = rules(Access::Session, &["admin,staff * /admin/:path*", "session * /x"]);
    let check = |claims: Option<&str>, expected| {
        assert_eq!(decide(&rules, get("/admin/users"), claims), expected, "{claims:?}");
    };
    check(None, Err(Refusal::NoSession));
    check(ANN, Err(Refusal::RoleMissing));
    check(ADMIN, Ok(true));
    check(Some(r#"{"sub":"a","roles":["x","staff"]}"#), Ok(true));
    check(Some(r#"{"sub":"a","roles":["Admin","admin "," staff"]}"#), Err(Refusal::RoleMissing));
    check(Some(r#"{"sub":"a","role":"admin,staff"}"#), Err(Refusal::RoleMissing));
    check(Some(r#"{"sub":"a","role":{"admin":true}}"#), Err(Refusal::RoleMissing));
    check(Some(r#"{"sub":"a","isAdmin":true}"#), Ok(true));
    check(Some(r#"{"sub":"a","isAdmin":"true"}"#), Err(Refusal::RoleMissing));
    check(Some(r#"{"sub":"a","isAdmin":1}"#), Err(Refusal::RoleMissing));
    assert_eq!(decide(&rules, get("/x"), ANN), Ok(true));
    let roles = rules.roles(&session(r#"{"sub":"a","role":"x","roles":["y","x"],"isAdmin":true}"#));
    assert_eq!(roles.iter().collect::<Vec<_>>(), ["x", "y", "admin"]);
}

#[test]
fn a_host_finds_its_app_in_any_spelling() {
    let apps = ["a.example.com", "*.example.com", "*.b.example.com", "B\u{dc}CHER.example"];
    let (rules, _) = compile(apps.map(|host| app(host, Access::Public, &[])).into());
    let check = |host, expected| {
        let head = Head::parse(RawHead::get(host, "/")).unwrap();
        assert_eq!(rules.route(&head).map(|route| route.app()), expected, "{host}");
    };
    for host in ["a.example.com", "A.EXAMPLE.com", "a.example.com.", "a.example.com:8080"] {
        check(host, Ok(0));
    }
    check("x.example.com", Ok(1));
    check("X.example.com.", Ok(1));
    check("x.b.example.com", Ok(2));
    check("xn--bcher-kva.example", Ok(3));
    for host in
        ["example.com", "x.y.example.com", "a.example.com.evil.com", "aexample.com", "localhost"]
    {
        check(host, Err(Refusal::UnknownHost));
    }
    assert!(rules.is_app_host(&Host::parse("q.example.com").unwrap()));
    assert!(rules.allows_origin("https://q.example.com:3000"));
    assert!(rules.allows_origin("https://partner.example"));
    for origin in ["https://evil.com", "null", "http://partner.example"] {
        assert!(!rules.allows_origin(origin), "{origin}");
    }
}

#[test]
fn a_preflight_passes_as_a_stranger_but_not_to_a_denied_path() {
    let rules = rules(Access::Session, &["deny * /secret/:path*", "public * /open"]);
    let check = |target, expected: Result<bool, Refusal>| {
        let head = Head::parse(RawHead {
            method: "OPTIONS",
            origin: Field::One(b"https://partner.example"),
            names_cors_method: true,
            ..get(target)
        });
        let head = head.unwrap();
        assert!(head.is_preflight());
        let pass = rules.route(&head).unwrap().preflight();
        assert_eq!(pass.map(|pass| pass.as_session()), expected, "{target}");
    };
    check("/guarded", Ok(false));
    check("/open", Ok(false));
    check("/secret/x", Err(Refusal::Denied));
    check("/SECRET.rsc", Err(Refusal::Denied));
}

#[test]
fn a_foreign_write_is_refused_where_guarded_and_a_stranger_where_public() {
    let rules = rules(Access::Session, &["public * /open", "deny * /shut", "admin * /admin"]);
    let check = |target, claims, expected| {
        let fetch_site = Field::One(b"cross-site");
        let raw = RawHead { method: "POST", fetch_site, ..get(target) };
        assert_eq!(decide(&rules, raw, claims), expected, "{target}");
    };
    check("/guarded", ANN, Err(Refusal::CrossSite));
    check("/guarded", None, Err(Refusal::NoSession));
    check("/admin", ADMIN, Err(Refusal::CrossSite));
    check("/open", ANN, Ok(false));
    check("/open", None, Ok(false));
    check("/shut", ADMIN, Err(Refusal::Denied));
    assert_eq!(decide(&rules, RawHead { method: "POST", ..get("/open") }, ANN), Ok(true));
    let websocket =
        RawHead { websocket: true, origin: Field::One(b"https://evil.example"), ..get("/guarded") };
    assert_eq!(decide(&rules, websocket, ANN), Err(Refusal::CrossSite));
}

/// `threats.md` rows 5, 18, 28 to 33: the page under another address.
#[test]
fn a_guarded_page_is_guarded_under_every_address() {
    let opens = ["admin * /dashboard/:path* /caf\u{e9}/:path*", "public * /:path*"];
    let rules = rules(Access::Public, &opens);
    for target in [
        "/dashboard",
        "/dashboard/",
        "/dashboard/a",
        "/%64ashboard",
        "/DASHBOARD/a",
        "/Dashboard",
        "/dashboard;x=1",
        "/dashboard;x/a;y",
        "/dashboard.rsc",
        "/dashboard.RSC",
        "/dashboard/a.rsc",
        "/dashboard.segments/$c$children/__PAGE__.segment.rsc",
        "/dashboard;x.rsc",
        "/dashboard.rsc;x",
        "/_next/data/build/dashboard.json",
        "/_next/data/build/dashboard",
        "/_NEXT/data/build/Dashboard.JSON",
        "/_next/data/build/dashboard/a.json",
        "/_next/data;x/build/dashboard.json",
        "/_next/data/build/index/dashboard.json",
        "/caf%C3%A9",
        "/caf%c3%a9/a",
        "/CAF%c3%a9.rsc",
    ] {
        assert_eq!(decide(&rules, get(target), ANN), Err(Refusal::RoleMissing), "{target}");
        assert_eq!(decide(&rules, get(target), ADMIN), Ok(true), "{target}");
    }
    for target in ["/", "/dashboardx", "/x/dashboard", "/_next/data/build/other.json", "/caf%C3%89"]
    {
        assert_eq!(access(&rules, target), Access::Public, "{target}");
    }
}

#[test]
fn the_longest_pattern_and_the_deepest_path_are_no_trouble() {
    let deepest = "/a".repeat(2000);
    let rules = rules(Access::Public, &[&format!("session * {deepest}"), "public * /:p*/b"]);
    assert_eq!(access(&rules, &deepest), Access::Session);
    assert_eq!(access(&rules, &format!("{deepest}/b")), Access::Public);
    assert_eq!(access(&rules, &"/a".repeat(8000)), Access::Public);
}

/// `threats.md` row 16: a byte that no wildcard takes would be a way past every rule.
#[test]
fn whatever_a_path_may_hold_is_taken_by_every_wildcard() {
    let raw = (0..128_u8).map(|byte| format!("/a/{}", char::from(byte)));
    let escaped = (0..128_u8).map(|byte| format!("/a/%{byte:02X}"));
    for pattern in ["/a/:p", "/a/:p?", "/a/:p*", "/a/:p+", "/a/(.*)", "/a(.*)", "/((?!b).*)"] {
        let rules = rules(Access::Public, &[&format!("session * {pattern}")]);
        for target in raw.clone().chain(escaped.clone()) {
            if Head::parse(get(&target)).is_ok() && !target.contains('?') {
                assert_eq!(access(&rules, &target), Access::Session, "{pattern} {target}");
            }
        }
    }
}

#[test]
fn the_page_at_the_root_has_addresses_of_its_own() {
    let rules = rules(Access::Public, &["session * /", "public * /:path*"]);
    for target in [
        "/",
        "/index.rsc",
        "/index.segments/x.segment.rsc",
        "/_next/data/b/index.json",
        "/;x",
        "/.rsc",
    ] {
        assert_eq!(access(&rules, target), Access::Session, "{target}");
    }
    assert_eq!(access(&rules, "/a"), Access::Public);
}

#[test]
fn base_path_and_locales_are_matched_as_nextjs_does() {
    let mut app = app(HOST, Access::Public, &["session * /dash/:path*", "session * /"]);
    app.base_path = "/docs".to_owned();
    app.locales = vec!["en".to_owned(), "de-CH".to_owned()];
    app.default_locale = Some("en".to_owned());
    let (rules, _) = compile(vec![app]);
    for target in [
        "/docs/dash",
        "/docs/en/dash/x",
        "/docs/de-ch/dash",
        "/DOCS/DE-ch/DASH",
        "/docs/_next/data/b/en/dash.json",
        "/docs/_next/data/b/dash.json",
        "/docs/en/dash.rsc",
        "/docs",
        "/docs/",
        "/docs/en",
        "/docs/en.rsc",
        "/docs/index.rsc",
    ] {
        assert_eq!(access(&rules, target), Access::Session, "{target}");
    }
    for target in ["/dash", "/docsdash", "/docs/dashx", "/docs/fr/xdash", "/docs/x"] {
        assert_eq!(access(&rules, target), Access::Public, "{target}");
    }
}

#[test]
fn a_case_sensitive_app_has_no_reading_without_case() {
    let mut apps = vec![app(HOST, Access::Public, &["session * /Admin"])];
    assert_eq!(access(&compile(apps.clone()).0, "/admin"), Access::Session);
    apps[0].case_sensitive = true;
    let (rules, _) = compile(apps);
    assert_eq!(access(&rules, "/admin"), Access::Public);
    assert_eq!(access(&rules, "/Admin"), Access::Session);
}

#[test]
fn the_roles_of_all_readings_hold_and_the_first_that_refuses_is_named() {
    let rules = rules(Access::Public, &["staff * /a.rsc", "admin * /a", "session * /A.rsc"]);
    let head = Head::parse(get("/a.rsc")).unwrap();
    let route = rules.route(&head).unwrap();
    let check = |claims: &str, expected: Result<(), (Refusal, Option<usize>)>| {
        let session = session(claims);
        let result = route.decide(&head, &session).map(drop);
        let named = |refusal: Refusal| {
            let rule = route.refusing_rule(&refusal, Some(&session), &[]);
            (refusal, rule)
        };
        assert_eq!(result.map_err(named), expected, "{claims}");
    };
    check(r#"{"sub":"a","roles":["staff","admin"]}"#, Ok(()));
    check(r#"{"sub":"a","roles":["staff"]}"#, Err((Refusal::RoleMissing, Some(1))));
    check(r#"{"sub":"a","roles":["admin"]}"#, Err((Refusal::RoleMissing, Some(0))));
    assert_eq!(route.refusing_rule(&Refusal::NoSession, None, &[]), Some(0));

    let explained = rules.explain_route(&head).unwrap();
    let names: Vec<_> =
        explained.readings.iter().map(|it| (&*it.name, &*it.text, it.rule)).collect();
    let expected = [
        ("as it stands", "/a.rsc", Some(0)),
        ("page behind the address", "/a", Some(1)),
        ("any letter case", "/a.rsc", Some(0)),
        ("any letter case, page behind the address", "/a", Some(1)),
    ];
    assert_eq!(names, expected);
    assert_eq!(explained.deciding(Some(1)).unwrap().text, "/a");
}

#[test]
fn a_page_address_of_a_public_page_is_public() {
    let rules = rules(Access::Session, &["public * / /about /posts/:path*"]);
    for target in ["/about.rsc", "/_next/data/b/about.json", "/index.rsc", "/posts/a.rsc", "/About"]
    {
        assert_eq!(
            access(&rules, target),
            if target == "/About" { Access::Session } else { Access::Public }
        );
    }
}

#[test]
fn every_error_is_found_at_its_place() {
    let mut apps = vec![
        app("a.example.com:80", Access::Session, &[]),
        app("b.example.com", Access::Session, &["public get,GET /ok /a( x", "session *"]),
        app("B.example.com.", Access::Session, &["session * /((?!a)x) /(?=a)"]),
    ];
    apps[1].rules[0].roles.push("admin".to_owned());
    apps[1].base_path = "/docs/".to_owned();
    apps[1].locales.push("en".to_owned());
    let mut spec = spec(apps);
    spec.allowed_origins.push("partner.example".to_owned());
    let errors = Rules::compile(&spec).unwrap_err();
    let places: Vec<_> = errors
        .iter()
        .map(|it| (it.place.app, it.place.rule, it.place.key, it.place.item))
        .collect();
    let expected = [
        (Some(0), None, "host", None),
        (Some(1), None, "base_path", None),
        (Some(1), None, "default_locale", None),
        (Some(1), Some(0), "method", Some(0)),
        (Some(1), Some(0), "roles", None),
        (Some(1), Some(1), "path", None),
        (Some(1), Some(0), "path", Some(1)),
        (Some(1), Some(0), "path", Some(2)),
        (Some(2), None, "host", None),
        (Some(2), Some(0), "path", Some(1)),
        (None, None, "allowed_origins", Some(1)),
    ];
    assert_eq!(places, expected, "{errors:#?}");
}

#[test]
fn a_rule_that_is_hardly_meant_is_warned_of() {
    let check = |rules: &[&str], expected: &[(usize, &str)]| {
        let (_, warnings) = compile(vec![app(HOST, Access::Session, rules)]);
        let found: Vec<_> =
            warnings.iter().map(|it| (it.place.rule.unwrap(), it.message.as_str())).collect();
        let matches = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(found, expected)| found.0 == expected.0 && found.1.contains(expected.1));
        assert!(matches, "{rules:?}: {found:?}, expected {expected:?}");
    };
    let silent = |rule| (rule, "can never speak");
    let opened = |rule| (rule, "is public and opens");
    let idle = |rule| (rule, "no request gets here");

    check(&["public * / /about /_next/static/:path*", "admin * /admin/:path*"], &[]);
    check(&["session * /a", "admin * /a"], &[silent(1)]);
    check(&["session * /a/:path*", "admin * /a/b /a/:x/c"], &[silent(1)]);
    check(&["session * /:path*", "admin * /a/:x(\\d+)"], &[silent(1)]);
    check(&["session * /(.*)", "admin * /"], &[silent(1)]);
    check(&["session GET,POST /a", "admin POST,HEAD /a"], &[silent(1)]);
    check(
        &["session GET /a", "session * /b", "admin GET,POST /a", "admin GET /a /b"],
        &[silent(3)],
    );
    check(&["session * /a/:x", "admin * /a/:path*"], &[]);
    check(&["session * /a/:x(\\d+)", "admin * /a/:x(\\d+)"], &[silent(1)]);

    check(&["public * /admin/login", "admin * /admin/:path*"], &[opened(1)]);
    check(&["public * /:x/b", "admin * /a/:y"], &[opened(1)]);
    check(&["public POST /a", "admin GET /a/:path*"], &[]);
    check(&["public * /((?!api).*)", "admin * /admin/:path*"], &[opened(1)]);
    check(&["public * /admin/login", "admin * /admin(.*)"], &[opened(1)]);
    check(&["public * /a/:path*", "deny * /:x/b"], &[opened(1)]);
    check(&["admin * /admin/:path*", "public * /admin/login"], &[silent(1)]);

    check(&["admin * /a/../b", "admin * /a%2Fb"], &[idle(0), idle(1)]);

    let so = |rule, what: &'static str| (rule, what);
    let everybody = "`/:path*` above it matches first, so `/admin` is open to everybody";
    check(&["public * /:path*", "admin * /admin"], &[so(1, everybody)]);
    let every = "`/b/:path*` above it matches first, so `/b/c` is for every session";
    check(&["session * /a /b/:path*", "admin * /b/c"], &[so(1, every)]);
    let no_weaker = "`/a/:path*` above it matches first";
    check(&["admin * /a/:path*", "session * /a/b"], &[so(1, no_weaker)]);
    let named = "`/((?!dashboard).*)` above it is public";
    check(&["public * / /((?!dashboard).*)", "admin * /admin/:path*"], &[so(1, named)]);

    check(&["admin * /admin"], &[so(0, "`/admin/x` is for every session")]);
    check(&["deny * /admin/"], &[]);
    check(&["admin POST /orders", "admin * /robots.txt /"], &[]);
    check(&["admin * /admin", "session * /admin/help"], &[]);
    check(&["admin * /admin /admin/:path*"], &[]);
    check(&["admin * /admin", "admin * /:path*"], &[]);
    check(&["deny * /internal/:path* /metrics"], &[]);
    check(&["admin * /r/one", "public * /r/:code"], &[]);
    check(&["admin * /admin", "public * /:path*"], &[so(0, "`/admin/x` is open to everybody")]);
}

#[test]
fn a_rule_that_ends_with_its_path_is_told_what_the_app_s_own_access_leaves_below_it() {
    let messages = |access, rule: &str| -> Vec<String> {
        let (_, warnings) = compile(vec![app(HOST, access, &[rule])]);
        warnings.into_iter().map(|it| it.message).collect()
    };
    assert_eq!(messages(Access::Public, "admin * /a/b"), ["`/a/b/x` is open to everybody"]);
    assert_eq!(messages(Access::Session, "deny * /a"), ["`/a/x` is not denied"]);
    assert_eq!(messages(Access::Deny, "admin * /a"), [""; 0]);
    assert_eq!(messages(Access::Public, "session * /a"), [""; 0]);
}

#[test]
fn a_pattern_that_waits_for_other_paths_than_its_author_believes_is_warned_of() {
    let check = |change: fn(&mut AppSpec), rule: &str, expected: Option<&str>| {
        let mut app = app(HOST, Access::Session, &[rule]);
        change(&mut app);
        let (_, warnings) = compile(vec![app]);
        let found: Vec<&str> = warnings.iter().map(|it| it.message.as_str()).collect();
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(found, expected, "{rule}");
        assert!(warnings.iter().all(|it| it.place.key == "path" && it.place.item == Some(0)));
    };
    let own = Some("no rule is asked below `/.foregate/`: Foregate itself answers there");
    check(|_| {}, "public * /.foregate/session", own);
    check(|_| {}, "public * /.foregate", own);
    check(|_| {}, "public * /.foregated", None);
    check(|app| app.base_path = "/docs".to_owned(), "public * /.foregate/session", None);

    let languages = |app: &mut AppSpec| {
        app.locales = vec!["en".to_owned(), "pt-BR".to_owned()];
        app.default_locale = Some("en".to_owned());
    };
    let twice = "the locale goes in front by itself: this waits for";
    check(languages, "admin * /en/a/:path*", Some(&format!("{twice} `/en/en/a/:path*`")));
    check(languages, "admin * /pt-br", Some(&format!("{twice} `/pt-br/pt-br`")));
    check(languages, "admin * /fr/a", None);
    check(languages, "admin * /english", None);
    check(|_| {}, "session * /en/a", None);
}

#[test]
fn a_condition_that_the_visitor_controls_is_warned_of_and_does_not_count() {
    let condition = |kind: &str, key: Option<&str>, value: &str| ConditionSpec {
        kind: kind.to_owned(),
        key: key.map(str::to_owned),
        value: Some(value.to_owned()),
    };
    let mut app = app("*.example.com", Access::Session, &[]);
    let entry = |source: &str, has, missing| MatcherSpec {
        source: source.to_owned(),
        has,
        missing,
        locale: None,
    };
    app.matcher = Some(vec![
        entry("/a", vec![condition("cookie", Some("sid"), "")], Vec::new()),
        entry("/b", vec![condition("host", None, "(?<tenant>x|y)\\.example\\.com")], Vec::new()),
        entry("/c", Vec::new(), vec![condition("host", None, "x\\..*")]),
        entry("/d/", Vec::new(), Vec::new()),
    ]);
    let (rules, warnings) = compile(vec![app]);
    let found: Vec<_> = warnings.iter().map(|it| (it.place.key, it.place.item)).collect();
    assert_eq!(found, [("matcher", Some(0)), ("matcher", Some(3))], "{warnings:?}");
    let check = |host, target, expected| {
        let head = Head::parse(RawHead::get(host, target)).unwrap();
        assert_eq!(rules.route(&head).unwrap().access(), expected, "{host}{target}");
    };
    check("x.example.com", "/a", Access::Session);
    check("x.example.com", "/b", Access::Session);
    check("X.example.com:80", "/b", Access::Session);
    check("z.example.com", "/b", Access::Public);
    check("x.example.com", "/c", Access::Public);
    check("z.example.com", "/c", Access::Session);
    check("z.example.com", "/elsewhere", Access::Public);
}
