//! Path patterns: whatever compiles routes every path, in time, and in its cheap form just as by
//! its expression. Lines: pattern, request target, `basePath`, a locale.

#![no_main]

use foregate_policy::{Access, AppSpec, Head, MatcherSpec, PolicySpec, RawHead, RuleSpec, Rules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let pattern = lines.next().unwrap_or_default();
    let target = lines.next().unwrap_or("/");
    let (base_path, locale) = (lines.next().unwrap_or_default(), lines.next());
    // An empty group at the end changes nothing, but no pattern with a group is taken apart into
    // segments: it is matched as one expression. `/` alone means more to Next.js than the text.
    let dear = format!("{pattern}{{}}");
    let patterns = if pattern == "/" { vec![pattern] } else { vec![pattern, &dear] };
    let compiled: Vec<Rules> =
        patterns.iter().filter_map(|pattern| compile(pattern, base_path, locale)).collect();

    for host in HOSTS {
        let Ok(head) = Head::parse(RawHead::get(host, target)) else { return };
        let mut seen = None;
        for rules in &compiled {
            let route = rules.route(&head).expect("a known host");
            let readings = rules.explain_route(&head).expect("a known host").readings;
            assert_eq!(readings.iter().map(|it| it.access).max(), Some(route.access()));
            let told: Vec<_> = readings.into_iter().map(|it| (it.text, it.access)).collect();
            assert_eq!(seen.get_or_insert_with(|| told.clone()), &told, "{pattern} {target}");
        }
    }
});

const HOSTS: [&str; 2] = ["rules.example.com", "matcher.example.com"];

/// Two apps, whose rules and whose matcher ask for a session where `pattern` matches.
fn compile(pattern: &str, base_path: &str, locale: Option<&str>) -> Option<Rules> {
    let rule = RuleSpec { paths: vec![pattern.to_owned()], ..RuleSpec::default() };
    let entry = MatcherSpec { source: pattern.to_owned(), ..MatcherSpec::default() };
    let app = |host: &str, rules, matcher| AppSpec {
        host: host.to_owned(),
        access: Access::Public,
        rules,
        matcher,
        case_sensitive: false,
        base_path: base_path.to_owned(),
        locales: locale.map(str::to_owned).into_iter().collect(),
        default_locale: locale.map(str::to_owned),
    };
    let spec = PolicySpec {
        apps: vec![app(HOSTS[0], vec![rule], None), app(HOSTS[1], Vec::new(), Some(vec![entry]))],
        role_claims: Vec::new(),
        role_flags: Vec::new(),
        csrf: true,
        allowed_origins: Vec::new(),
    };
    match Rules::compile(&spec) {
        Ok((rules, warnings)) => {
            assert!(warnings.iter().all(|warning| !warning.message.is_empty()));
            Some(rules)
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.iter().all(|error| !error.message.is_empty()));
            None
        }
    }
}
