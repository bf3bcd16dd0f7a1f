//! `foregate explain`: which app, which rule, which decision and why, for a person or a script.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use foregate_config::{RuleText, Snapshot};
use foregate_policy::Access;
use foregate_proxy::{Explanation, Forwarded, Question, Refusing};
use foregate_session::{Session, UnixSeconds};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::cli::ExplainArgs;
use crate::session::{at, freshness_word};
use crate::{input, load};

pub(crate) fn command(arguments: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let snapshot = match load(&arguments.config.path) {
        Ok(loaded) => loaded.snapshot,
        Err(code) => return Ok(code),
    };
    let url = Url::split(&arguments.url)?;
    let now = at(arguments.now);
    let session = stand_in(arguments, &snapshot)?;
    let stands_in = session.is_some();
    let explanation = foregate_proxy::explain(
        &snapshot,
        Question {
            method: &arguments.method,
            scheme: url.scheme,
            target: url.target,
            headers: headers(arguments, &url)?,
            session,
            granted: &arguments.roles,
            now,
        },
    );
    let told = Told { explanation, snapshot: &snapshot, arguments, stands_in, now };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", told.json())?;
    } else {
        told.tell(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--claims` and `--role` say instead of a cookie.
fn stand_in(arguments: &ExplainArgs, snapshot: &Snapshot) -> anyhow::Result<Option<Session>> {
    let claims = match &arguments.claims {
        Some(file) => input(file)?,
        None if arguments.roles.is_empty() => return Ok(None),
        None => r#"{"sub":"somebody"}"#.to_owned(),
    };
    Ok(Some(snapshot.keyring.session_from_claims(&claims, None).context("the claims")?))
}

/// A URL whose tail is taken byte for byte, as it would stand in a request line.
struct Url<'u> {
    scheme: &'u str,
    authority: &'u str,
    target: &'u str,
}

impl<'u> Url<'u> {
    fn split(text: &'u str) -> anyhow::Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            bail!("{text}: a URL begins with http:// or https://");
        };
        if !matches!(scheme, "http" | "https") {
            bail!("{text}: a URL begins with http:// or https://");
        }
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = if target.is_empty() { "/" } else { target };
        Ok(Self { scheme, authority, target })
    }
}

fn headers(arguments: &ExplainArgs, url: &Url<'_>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_str(url.authority).context("the URL's host")?;
    headers.insert(header::HOST, host);
    for line in &arguments.headers {
        let (name, value) = line.split_once(':').with_context(|| format!("{line}: no colon"))?;
        let name: HeaderName = name.trim().parse().with_context(|| format!("{line}: its name"))?;
        headers.append(name, value.trim().parse().with_context(|| format!("{line}: its value"))?);
    }
    if let Some(cookie) = &arguments.cookie {
        headers.append(header::COOKIE, cookie.parse().context("the cookie")?);
    }
    Ok(headers)
}

struct Told<'t> {
    explanation: Explanation,
    snapshot: &'t Snapshot,
    arguments: &'t ExplainArgs,
    stands_in: bool,
    now: UnixSeconds,
}

impl Told<'_> {
    /// The contract's "What scripts read".
    fn json(&self) -> Value {
        let explanation = &self.explanation;
        let rule = explanation.rule.map(|index| {
            let text = self.rule_text(index);
            json!({
                "index": index,
                "path": text.map(|text| &text.path),
                "line": text.and_then(|text| text.line),
            })
        });
        let refused = explanation.refused.as_ref();
        json!({
            "app": self.app(),
            "rule": rule,
            "access": explanation.access.map(Access::as_str),
            "roles": explanation.roles,
            "decision": if refused.is_some() { "refuse" } else { "pass" },
            "reason": refused.map(|refused| refused.reason),
            "status": refused.map(|refused| refused.status),
            "location": refused.and_then(|refused| refused.location.as_deref()),
            "path": explanation.path,
            "session": explanation.session.as_ref().map(|session| self.session(session)),
            "upstream": explanation.upstream.as_ref().map(upstream),
            "notes": explanation.notes,
            "readings": explanation.readings.iter().map(|reading| json!({
                "name": reading.name,
                "path": reading.text,
                "rule": reading.rule,
                "access": reading.access.as_str(),
                "roles": reading.roles,
            })).collect::<Vec<_>>(),
        })
    }

    fn session(&self, session: &Session) -> Value {
        let from_cookie = !self.stands_in;
        let freshness = freshness_word(session, self.snapshot, self.now);
        json!({
            "name": from_cookie.then(|| session.cookie_name()),
            "format": from_cookie.then(|| session.format().as_str()),
            "secret": from_cookie.then(|| session.secret_index()),
            "subject": session.subject(),
            "roles": self.roles(session),
            "expires_at": session.expires_at().map(|end| end.0),
            "access_expires_at": session.access_expires_at().map(|end| end.0),
            "freshness": freshness,
        })
    }

    fn roles(&self, session: &Session) -> Vec<String> {
        let mut roles = self.arguments.roles.clone();
        for role in self.snapshot.rules.roles(session).iter() {
            if !roles.iter().any(|known| known == role) {
                roles.push(role.to_owned());
            }
        }
        roles
    }

    fn app(&self) -> Option<&str> {
        self.explanation.app.map(|app| self.snapshot.apps[app].host.as_str())
    }

    fn rule_text(&self, index: usize) -> Option<&RuleText> {
        self.snapshot.apps[self.explanation.app?].rules.get(index)
    }

    fn tell(&self, out: &mut impl Write) -> std::io::Result<()> {
        let explanation = &self.explanation;
        match &explanation.refused {
            None => writeln!(out, "pass")?,
            Some(refused) => tell_refusal(out, refused)?,
        }
        writeln!(out, "\napp       {}", self.app().unwrap_or("none"))?;
        if let Some(path) = &explanation.path {
            writeln!(out, "path      {path}")?;
        }
        for (number, reading) in explanation.readings.iter().enumerate() {
            let title = if number == 0 { "readings" } else { "" };
            let (access, roles) = (reading.access.as_str(), reading.roles.join(" or "));
            let needs = if roles.is_empty() { access.to_owned() } else { format!("role {roles}") };
            let rule = match reading.rule {
                None => "the app's access".to_owned(),
                Some(index) => self.named(index),
            };
            writeln!(out, "{title:<9} {}: {} → {rule}: {needs}", reading.name, reading.text)?;
        }
        if let Some(index) = explanation.rule {
            writeln!(out, "decides   {}", self.named(index))?;
        }
        if let Some(session) = &explanation.session {
            let subject = session.subject().unwrap_or_default();
            let roles = self.roles(session).join(", ");
            let freshness = freshness_word(session, self.snapshot, self.now);
            writeln!(out, "session   {subject}, roles [{roles}], access token {freshness}")?;
        }
        if let Some(upstream) = &explanation.upstream {
            writeln!(out, "upstream  {}", upstream.url)?;
            for (name, value) in &upstream.set {
                writeln!(out, "  set     {name}: {value}")?;
            }
            for name in &upstream.remove {
                writeln!(out, "  remove  {name}")?;
            }
        }
        for note in &explanation.notes {
            writeln!(out, "note      {note}")?;
        }
        Ok(())
    }

    /// `rule 2, line 31 (/admin/:path*)`
    fn named(&self, index: usize) -> String {
        match self.rule_text(index) {
            Some(RuleText { path, line: Some(line) }) => {
                format!("rule {index}, line {line} ({path})")
            }
            Some(RuleText { path, line: None }) => format!("rule {index} ({path})"),
            None => format!("rule {index}"),
        }
    }
}

fn tell_refusal(out: &mut impl Write, refused: &Refusing) -> std::io::Result<()> {
    let Refusing { reason, status, location, detail } = refused;
    match location {
        Some(location) => writeln!(out, "refuse    {reason}: {status} to {location}")?,
        None => writeln!(out, "refuse    {reason}: {status}")?,
    }
    writeln!(out, "          {detail}")
}

fn upstream(upstream: &Forwarded) -> Value {
    json!({ "url": upstream.url, "set": upstream.set, "remove": upstream.remove })
}
