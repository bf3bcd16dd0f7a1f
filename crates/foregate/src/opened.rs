//! What a configuration that is read again opens wider, said aloud before it is taken over: an
//! edit that shuts something shows by itself, one that opens something does not.

use foregate_config::{App, Snapshot};
use foregate_policy::Opened;

/// Everything that `new` admits and `old` refused, as far as [`foregate_policy::Rules`] can tell.
pub(crate) struct Openings {
    patterns: Vec<Opened>,
    /// Keys, each with what was added or switched on.
    settings: Vec<(String, String)>,
}

impl Openings {
    /// Takes up to a second for thousands of rules.
    pub(crate) fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let loosened = new.rules.loosened_since(&old.rules).into_iter();
        let mut settings: Vec<(String, String)> =
            loosened.map(|(key, what)| (key.to_owned(), what)).collect();
        let proxies = new.server.trusted_proxies.beyond(&old.server.trusted_proxies).into_iter();
        settings.extend(proxies.map(|peer| ("server.trusted_proxies".to_owned(), peer)));
        let passed = |app: &&App| {
            let before = old.apps.iter().find(|known| known.host == app.host);
            app.pass_authorization && !before.is_some_and(|before| before.pass_authorization)
        };
        let passing = new.apps.iter().filter(passed);
        settings.extend(
            passing
                .map(|app| ("app.pass_authorization".to_owned(), format!("true on {}", app.host))),
        );
        Self { patterns: new.rules.opened_since(&old.rules), settings }
    }

    /// One line for each. `new` is the configuration that they were found in.
    pub(crate) fn tell(&self, new: &Snapshot) {
        for Opened { app, rule, pattern, example, was, is } in &self.patterns {
            let app = new.apps.get(*app);
            let host = app.map_or("", |app| &app.host);
            let rule = rule.and_then(|rule| app?.rules.get(rule));
            let line = rule.and_then(|rule| rule.line);
            let pattern = pattern.as_deref().unwrap_or("every other path");
            tracing::warn!(app = host, pattern, was, is, example, line, "opened wider");
        }
        for (key, what) in &self.settings {
            tracing::warn!(key, what, "admits more than before");
        }
    }
}
