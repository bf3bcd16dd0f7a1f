//! Whether visitors can sign in at all, where the site that signs them in is behind this gate.

use foregate_policy::{Head, RawHead, Route, Rules};
use url::Url;

use crate::key::Key;
use crate::problem::Fault;
use crate::raw;
use crate::report::Report;
use crate::snapshot::{App, Login};

/// A visitor without a session would be sent in circles, or could never get one.
pub(super) fn behind_its_own_gate(
    login: &Login,
    rules: &Rules,
    apps: &[App],
    raw: &[raw::App],
    report: &mut Report,
) {
    let key = Key::of("login.url");
    let target = &login.url[url::Position::BeforePath..];
    let Some(head) = head(&login.url, "GET", target) else {
        let fault = Fault::new("Foregate itself would refuse a request for this URL");
        return report.error(&key, fault.hint("write it without odd escapes"));
    };
    // An unknown host is somebody else's.
    let Ok(route) = rules.route(&head) else { return };
    let (app, raw) = (&apps[route.app()], &raw[route.app()]);
    if report.has_lost(&Key::of("app").index(route.app())) {
        return;
    }
    let guard = |route: &Route<'_>| match route.rule().and_then(|rule| app.rules.get(rule)) {
        Some(rule) => rule.to_string(),
        None => format!("the access of {}", app.host),
    };
    if route.without_session().is_err() {
        let guard = guard(&route);
        let fault = Fault::new(format!("{guard} guards this URL, so nobody could ever sign in"));
        return report.error(&key, fault.hint(cure(raw, head.path().as_str())));
    }
    for (method, path) in NEXTAUTH {
        let target = [&raw.base_path, path].concat();
        let Some(head) = self::head(&login.url, method, &target) else { continue };
        let Ok(route) = rules.route(&head) else { continue };
        if route.without_session().is_err() {
            let guard = guard(&route);
            let message = format!(
                "{guard} guards {target}, where NextAuth.js itself answers: nobody can sign in"
            );
            let all = [&raw.base_path, "/api/auth/:path*"].concat();
            return report.warning(&key, Fault::new(message).hint(cure(raw, &all)));
        }
    }
}

/// What a visitor asks for who signs in (nextauthjs/next-auth, branch `v4`,
/// packages/next-auth/src/core/index.ts).
const NEXTAUTH: [(&str, &str); 5] = [
    ("GET", "/api/auth/signin"),
    ("GET", "/api/auth/csrf"),
    ("GET", "/api/auth/session"),
    ("GET", "/api/auth/callback/x"),
    ("POST", "/api/auth/callback/x"),
];

fn cure(app: &raw::App, path: &str) -> String {
    match app.matcher {
        Some(_) => format!("leave {path:?} out of `matcher`"),
        None => format!("add a rule above it: path = {path:?}, access = \"public\""),
    }
}

/// A request of a browser for `target` on the host of `url`; `None` where it would be refused.
fn head<'a>(url: &'a Url, method: &'a str, target: &'a str) -> Option<Head<'a>> {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    Head::parse(RawHead { method, ..RawHead::get(authority, target) }).ok()
}
