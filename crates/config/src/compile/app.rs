//! `[[app]]`, `[csrf]` and `[roles]` into apps and rules.

use std::sync::Arc;

use foregate_policy::{
    Access, AppSpec, ConditionSpec, Finding, Host, MatcherSpec, PolicySpec, RuleSpec, Rules,
};
use foregate_session::ClaimPath;
use http::HeaderName;

use super::tls;
use crate::environment::Environment;
use crate::key::Key;
use crate::one_or_many::OneOrMany;
use crate::problem::Fault;
use crate::raw;
use crate::report::Report;
use crate::snapshot::{App, CookieMode, RuleText, folded};
use crate::upstream::{Protocol, Upstream};
use crate::value;

/// One per `[[app]]`, in the order of the file.
pub(super) fn apps(raw: &[raw::App], environment: &Environment, report: &mut Report) -> Vec<App> {
    if raw.is_empty() {
        let hint = "add an [[app]] with a host and an upstream";
        report.missing(&Key::of("app"), hint);
    }
    let apps = raw.iter().enumerate().map(|(index, raw)| {
        let key = Key::of("app").index(index);
        App {
            host: host(raw, &key, report),
            upstreams: upstreams(raw, &key, environment, report),
            pass_authorization: raw.pass_authorization,
            cookie: match raw.cookie {
                raw::CookieMode::Refreshed => CookieMode::Refreshed,
                raw::CookieMode::Strip => CookieMode::Strip,
            },
            identity: identity(raw, &key, report),
            rules: rule_texts(raw, &key, report),
            names_a_method: raw.rule.iter().any(|rule| !list(rule.method.as_ref()).is_empty()),
        }
    });
    apps.collect()
}

/// In the spelling that rules compare. What is no host at all the policy finds.
fn host(raw: &raw::App, key: &Key, report: &mut Report) -> String {
    let Some(text) = &raw.host else {
        report.missing(&key.name("host"), "the host that visitors ask for, as \"app.example.com\"");
        return String::new();
    };
    let (star, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text.as_str()),
    };
    Host::parse(name).map_or_else(|_| text.clone(), |host| [star, host.as_str()].concat())
}

fn upstreams(
    raw: &raw::App,
    key: &Key,
    environment: &Environment,
    report: &mut Report,
) -> Vec<Arc<Upstream>> {
    let ca_key = key.name("upstream_ca");
    let authority_roots = raw.upstream_ca.as_ref().and_then(|path| {
        let roots = tls::authorities(path, environment, report);
        report.accept(&ca_key, roots)
    });
    let key = key.name("upstream");
    let texts = list(raw.upstream.as_ref());
    if texts.is_empty() {
        report.missing(&key, "where the app listens, as \"http://127.0.0.1:3000\"");
    }
    let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let key = key.index(index);
        let Some((protocol, endpoint)) = report.accept(&key, value::upstream(text)) else {
            continue;
        };
        let authority_roots = authority_roots.clone().filter(|_| protocol == Protocol::Https);
        let upstream = Arc::new(Upstream { protocol, endpoint, authority_roots });
        if upstreams.contains(&upstream) {
            let fault = Fault::new("this upstream stands in the list already");
            report.error(&key, fault.hint("take it out"));
        }
        upstreams.push(upstream);
    }
    let is_https = |upstream: &Arc<Upstream>| upstream.protocol == Protocol::Https;
    if raw.upstream_ca.is_some()
        && upstreams.len() == texts.len()
        && !upstreams.iter().any(is_https)
    {
        let fault = Fault::new("there is no https upstream to check");
        report.error(&ca_key, fault.hint("leave it out, or write https:// in `upstream`"));
    }
    upstreams
}

fn identity(raw: &raw::App, key: &Key, report: &mut Report) -> Vec<(HeaderName, ClaimPath)> {
    let mut identity: Vec<(HeaderName, ClaimPath)> = Vec::new();
    for (name, claim) in &raw.headers {
        let key = key.name("headers").name(name);
        let name = report.accept(&key, value::identity_header(name));
        let claim = report.accept(&key, value::claim(claim));
        let (Some(name), Some(claim)) = (name, claim) else { continue };
        let spelled = folded(name.as_str());
        if identity.iter().any(|(other, _)| folded(other.as_str()) == spelled) {
            let fault = Fault::new("another line sets this header, in another spelling");
            report.error(&key, fault.hint("keep one of them"));
        }
        identity.push((name, claim));
    }
    identity
}

/// The rules of all apps; what the policy finds is noted at its keys.
pub(super) fn rules(file: &raw::File, report: &mut Report) -> Option<Rules> {
    let claims = file.roles.claims.iter().enumerate().filter_map(|(index, text)| {
        report.accept(&Key::of("roles.claims").index(index), value::claim(text))
    });
    let role_claims = claims.collect();
    let flags = file.roles.flags.iter().filter_map(|(role, text)| {
        let path = report.accept(&Key::of("roles.flags").name(role), value::claim(text))?;
        Some((role.clone(), path))
    });
    let role_flags = flags.collect();
    let apps = file.app.iter().enumerate();
    let spec = PolicySpec {
        apps: apps
            .map(|(index, app)| app_spec(app, &Key::of("app").index(index), report))
            .collect(),
        role_claims,
        role_flags,
        csrf: file.csrf.enabled,
        allowed_origins: file.csrf.allowed_origins.clone(),
    };
    match Rules::compile(&spec) {
        Ok((rules, warnings)) => {
            for finding in warnings {
                let app = finding.place.app.map(|app| Key::of("app").index(app));
                if !app.is_some_and(|app| report.has_lost(&app)) {
                    report.warning(&place(&finding), fault(finding));
                }
            }
            Some(rules)
        }
        Err(errors) => {
            for finding in errors {
                report.error(&place(&finding), fault(finding));
            }
            None
        }
    }
}

fn app_spec(raw: &raw::App, key: &Key, report: &mut Report) -> AppSpec {
    let rules = raw.rule.iter().enumerate().map(|(index, rule)| {
        let key = key.name("rule").index(index);
        if list(rule.path.as_ref()).is_empty() {
            report.missing(
                &key.name("path"),
                "the paths that the rule is about, as \"/admin/:path*\"",
            );
        }
        RuleSpec {
            paths: list(rule.path.as_ref()).to_vec(),
            methods: list(rule.method.as_ref()).to_vec(),
            access: rule.access.map(access),
            roles: list(rule.roles.as_ref()).to_vec(),
        }
    });
    let rules = rules.collect();
    if raw.matcher.is_some() && report.sources().has(&report.as_in_the_file(&key.name("access"))) {
        let fault = Fault::new("`access` does not go together with `matcher`");
        let hint =
            "what no item of `matcher` names is public; for anything else write [[app.rule]]";
        report.error(&key.name("access"), fault.hint(hint));
    }
    if let Some(OneOrMany::One(raw::Matcher::Full(_))) = &raw.matcher {
        let fault = Fault::new("expected a path or a list");
        report.error(&key.name("matcher"), fault.hint("put [ ] around it, as Next.js demands"));
    }
    let matcher = raw.matcher.as_ref().map(|matcher| {
        let items = matcher.as_slice().iter().enumerate();
        items
            .map(|(index, item)| matcher_spec(item, &key.name("matcher").index(index), report))
            .collect()
    });
    AppSpec {
        host: raw.host.clone().unwrap_or_default(),
        access: access(raw.access),
        rules,
        matcher,
        case_sensitive: raw.case_sensitive,
        base_path: raw.base_path.clone(),
        locales: raw.locales.clone(),
        default_locale: Some(raw.default_locale.clone()).filter(|locale| !locale.is_empty()),
    }
}

fn rule_texts(raw: &raw::App, key: &Key, report: &Report) -> Vec<RuleText> {
    let rules = raw.rule.iter().enumerate().map(|(index, rule)| {
        let line = report.line(&key.name("rule").index(index));
        RuleText { path: list(rule.path.as_ref()).join(", "), line }
    });
    let items = raw.matcher.as_ref().map_or(&[][..], OneOrMany::as_slice).iter().enumerate();
    let items = items.map(|(index, item)| {
        let line = report.line(&key.name("matcher").index(index));
        let path = match item {
            raw::Matcher::Source(source) => source.clone(),
            raw::Matcher::Full(table) => table.source.clone().unwrap_or_default(),
        };
        RuleText { path, line }
    });
    rules.chain(items).collect()
}

fn matcher_spec(raw: &raw::Matcher, key: &Key, report: &mut Report) -> MatcherSpec {
    match raw {
        raw::Matcher::Source(source) => {
            MatcherSpec { source: source.clone(), ..MatcherSpec::default() }
        }
        raw::Matcher::Full(table) => {
            if table.source.is_none() {
                report.missing(&key.name("source"), "the path that it is about");
            }
            MatcherSpec {
                source: table.source.clone().unwrap_or_default(),
                has: conditions(&table.has, &key.name("has"), report),
                missing: conditions(&table.missing, &key.name("missing"), report),
                locale: table.locale,
            }
        }
    }
}

fn conditions(raw: &[raw::Condition], key: &Key, report: &mut Report) -> Vec<ConditionSpec> {
    let conditions = raw.iter().enumerate().map(|(index, condition)| {
        let kind = match condition.kind {
            Some(raw::ConditionKind::Header) => "header",
            Some(raw::ConditionKind::Cookie) => "cookie",
            Some(raw::ConditionKind::Query) => "query",
            Some(raw::ConditionKind::Host) => "host",
            None => {
                let key = key.index(index).name("type");
                report.missing(&key, "one of \"header\", \"cookie\", \"query\" and \"host\"");
                ""
            }
        };
        ConditionSpec {
            kind: kind.to_owned(),
            key: condition.key.clone(),
            value: condition.value.clone(),
        }
    });
    conditions.collect()
}

fn access(raw: raw::Access) -> Access {
    match raw {
        raw::Access::Public => Access::Public,
        raw::Access::Session => Access::Session,
        raw::Access::Deny => Access::Deny,
    }
}

fn list(raw: Option<&OneOrMany<String>>) -> &[String] {
    raw.map_or(&[], OneOrMany::as_slice)
}

fn place(finding: &Finding) -> Key {
    let place = finding.place;
    let Some(app) = place.app else {
        let key = Key::of("csrf").name(place.key);
        return place.item.map_or_else(|| key.clone(), |item| key.index(item));
    };
    let app = Key::of("app").index(app);
    let key = match place.rule {
        Some(rule) => {
            let rule = app.name("rule").index(rule);
            if place.key == "rule" { rule } else { rule.name(place.key) }
        }
        None => app.name(place.key),
    };
    place.item.map_or_else(|| key.clone(), |item| key.index(item))
}

fn fault(finding: Finding) -> Fault {
    Fault { message: finding.message, hint: finding.hint }
}
