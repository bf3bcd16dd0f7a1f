//! The compiled rules of all apps: which app a request is for, and what its path asks for.

use std::collections::HashMap;

use foregate_session::Session;

use crate::access::{Access, Refusal};
use crate::app::App;
use crate::check::warnings;
use crate::compile::compile_app;
use crate::explain::{Explained, ExplainedReading};
use crate::head::Head;
use crate::host::Host;
use crate::roles::{RoleSet, RoleSource};
use crate::route::{Hit, Route};
use crate::same_site::{SameSite, is_app_origin};
use crate::spec::{Finding, Place, PolicySpec};

/// All rules, compiled and checked. Only [`Rules::compile`] makes them.
#[derive(Debug)]
pub struct Rules {
    apps: Vec<App>,
    /// Exact host to index into `apps`.
    hosts: HashMap<Box<str>, usize>,
    /// What follows the first label of a `*.` host, to index into `apps`.
    wildcards: HashMap<Box<str>, usize>,
    role_source: RoleSource,
    same_site: SameSite,
    /// What all this was made from: another generation is held against it.
    pub(crate) spec: PolicySpec,
}

impl Rules {
    /// Compiles a specification; beside the rules come the warnings. Every error is found, not
    /// only the first.
    pub fn compile(spec: &PolicySpec) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let mut errors = Vec::new();
        let (mut hosts, mut wildcards) = (HashMap::new(), HashMap::new());
        let mut apps = Vec::new();
        for (index, app) in spec.apps.iter().enumerate() {
            if let Err(finding) = add_host(&mut hosts, &mut wildcards, index, &app.host) {
                errors.push(finding);
            }
            apps.extend(compile_app(index, app, &mut errors));
        }
        let same_site = SameSite::new(spec.csrf, &spec.allowed_origins).map_err(|bad| {
            for item in bad {
                errors.push(Finding {
                    place: Place { key: "allowed_origins", item: Some(item), ..Place::default() },
                    message: "not an origin".to_owned(),
                    hint: Some("write `https://host` or `https://host:port`".to_owned()),
                });
            }
        });
        match same_site {
            Ok(same_site) if errors.is_empty() => {
                let role_source =
                    RoleSource { claims: spec.role_claims.clone(), flags: spec.role_flags.clone() };
                let checked = spec.apps.iter().zip(&apps).enumerate();
                let warnings = checked.flat_map(|(index, (spec, app))| warnings(index, spec, app));
                let warnings = warnings.collect();
                let spec = spec.clone();
                Ok((Self { apps, hosts, wildcards, role_source, same_site, spec }, warnings))
            }
            _ => Err(errors),
        }
    }

    /// Finds the app and what every reading of the path asks for.
    pub fn route<'r>(&'r self, head: &Head<'_>) -> Result<Route<'r>, Refusal> {
        let index = self.app_of(head.host().as_str()).ok_or(Refusal::UnknownHost)?;
        let app = &self.apps[index];
        let mut route: Option<Route<'r>> = None;
        app.each_reading(head, |_, _, hit| match &mut route {
            Some(route) => route.add(hit),
            None => route = Some(Route::new(self, index, hit)),
        });
        // Every path has a first reading; without one nobody would pass.
        let closed = Hit { rule: None, access: Access::Deny, roles: &[] };
        Ok(route.unwrap_or_else(|| Route::new(self, index, closed)))
    }

    /// Routes as [`Rules::route`] does and tells every reading.
    pub fn explain_route(&self, head: &Head<'_>) -> Result<Explained, Refusal> {
        let app = self.app_of(head.host().as_str()).ok_or(Refusal::UnknownHost)?;
        let mut readings = Vec::new();
        self.apps[app].each_reading(head, |reading, text, hit| {
            readings.push(ExplainedReading {
                name: reading.to_string(),
                text: text.as_str().to_owned(),
                rule: hit.rule,
                access: hit.access,
                roles: hit.roles.iter().map(|role| String::from(&**role)).collect(),
            });
        });
        Ok(Explained { app, readings })
    }

    /// Whether some app has this host.
    pub fn is_app_host(&self, host: &Host<'_>) -> bool {
        self.app_of(host.as_str()).is_some()
    }

    /// Whether a page of `origin` may read our answers: an allowed origin, or an app's.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.same_site.allows_origin(origin)
            || is_app_origin(origin, |host| self.app_of(host).is_some())
    }

    /// Whether the visitor's cookie may speak for this request, on a path that is guarded.
    pub fn admits_site(&self, head: &Head<'_>) -> bool {
        self.same_site.admits(head, |host| self.app_of(host).is_some())
    }

    /// All roles of a session.
    pub fn roles(&self, session: &Session) -> RoleSet {
        self.role_source.roles(session)
    }

    pub(crate) fn holds_any(&self, session: &Session, roles: &[Box<str>]) -> bool {
        self.role_source.holds_any(session, roles)
    }

    /// An exact host goes before a wildcard.
    pub(crate) fn app_of(&self, host: &str) -> Option<usize> {
        let exact = self.hosts.get(host);
        let behind_label = || self.wildcards.get(host.split_once('.')?.1);
        exact.or_else(behind_label).copied()
    }
}

fn add_host(
    hosts: &mut HashMap<Box<str>, usize>,
    wildcards: &mut HashMap<Box<str>, usize>,
    app: usize,
    text: &str,
) -> Result<(), Finding> {
    let finding = |message: &str, hint: &str| Finding {
        place: Place { app: Some(app), key: "host", ..Place::default() },
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    };
    let (map, name) = match text.strip_prefix("*.") {
        Some(parent) => (wildcards, parent),
        None => (hosts, text),
    };
    let host = Host::parse(name).map_err(|_| {
        finding("not a host name", "write `app.example.com`, or `*.example.com` for one label")
    })?;
    if host.as_str().len() < name.trim_end_matches('.').len() && name.is_ascii() {
        return Err(finding("a host stands without a port", "leave the port out"));
    }
    match map.insert(host.as_str().into(), app) {
        Some(_) => Err(finding("another app has this host already", "keep one of the two")),
        None => Ok(()),
    }
}
