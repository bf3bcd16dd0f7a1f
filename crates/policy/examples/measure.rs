use foregate_policy::*;
use std::hint::black_box;
use std::time::Instant;
fn app(rules: Vec<RuleSpec>, matcher: Option<Vec<MatcherSpec>>) -> PolicySpec {
    PolicySpec {
        apps: vec![AppSpec {
            host: "app.example.com".into(),
            access: Access::Session,
            rules,
            matcher,
            case_sensitive: false,
            base_path: String::new(),
            locales: vec![],
            default_locale: None,
        }],
        role_claims: vec![],
        role_flags: vec![],
        csrf: true,
        allowed_origins: vec![],
    }
}
fn time(name: &str, rules: &Rules, path: &str) {
    let n = 20_000;
    for _ in 0..1000 {
        let h = Head::parse(RawHead::get("app.example.com", path)).unwrap();
        black_box(rules.route(&h).unwrap().access());
    }
    let t = Instant::now();
    for _ in 0..n {
        let h = Head::parse(black_box(RawHead::get("app.example.com", path))).unwrap();
        black_box(&h);
    }
    let parse = t.elapsed() / n;
    let h = Head::parse(RawHead::get("app.example.com", path)).unwrap();
    let t = Instant::now();
    for _ in 0..n {
        black_box(rules.route(black_box(&h)).unwrap().access());
    }
    println!("  {name:20} {path:42} parse {parse:?} route {:?}", t.elapsed() / n);
}
fn main() {
    type Make = fn(usize) -> String;
    let kinds: [(&str, Make); 7] = [
        ("literal", |i| format!("/section-{i}/page")),
        ("star", |i| format!("/section-{i}/:path*")),
        ("regexp", |i| format!("/section-{i}/:id(\\d+)")),
        ("lang", |i| format!("/:lang(en|de)/section-{i}/:path*")),
        ("partial", |i| format!("/section-{i}(.*)")),
        ("negative", |i| format!("/section-{i}/((?!api|_next/static|.*\\..*).*)")),
        ("upper", |i| format!("/Section-{i}/:path*/x")),
    ];
    for (name, make) in kinds {
        for n in [10, 10_000] {
            let rules: Vec<_> = (0..n)
                .map(|i| RuleSpec {
                    paths: vec![make(i)],
                    methods: vec![],
                    access: Some(if i % 2 == 0 { Access::Public } else { Access::Session }),
                    roles: vec![],
                })
                .collect();
            let spec = app(rules, None);
            let t = Instant::now();
            let (rules, w) = Rules::compile(&spec).unwrap();
            println!("{name} {n}: compile {:?}, {} warnings", t.elapsed(), w.len());
            for path in [
                "/",
                "/section-7/page",
                "/section-9/12/a/b/c",
                "/Section-5/X/%C3%A9;a/x.rsc",
                "/_next/data/b/section-3/12.json",
            ] {
                time(name, &rules, path);
            }
        }
    }
    let (rules, _) = Rules::compile(&app(
        vec![],
        Some(
            ["/((?!api|_next/static|_next/image|favicon.ico|.*\\.png$).*)"]
                .map(|s| MatcherSpec { source: s.into(), ..Default::default() })
                .into(),
        ),
    ))
    .unwrap();
    for path in ["/", "/dashboard/settings/profile", "/_next/static/chunks/main.js"] {
        time("idiom", &rules, path);
    }
    let long = format!("/{}", "a.b-c/".repeat(2000));
    time("idiom", &rules, &long);
}
