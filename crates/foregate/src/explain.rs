//! `foregate explain`: which app, which rule, which decision and why, for a person or a script.

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use foregate_config::{RuleText, Snapshot};
use foregate_policy::Access;
use foregate_proxy::{Explanation, Forwarded, Question, Refusing};
use foregate_session::{Session, UnixSeconds};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::cli::ExplainArgs;
use crate::load;
use crate::print::print;
use crate::session::{at, freshness_word, from_claims, from_text, is_bare_token, without_name};

pub(crate) fn command(arguments: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let snapshot = match load(&arguments.config.path) {
        Ok(loaded) => loaded.snapshot,
        Err(code) => return Ok(code),
    };
    let url = &arguments.url;
    let now = at(arguments.now);
    let session = stand_in(arguments, &snapshot)?;
    let stands_in = session.is_some();
    let mut explanation = foregate_proxy::explain(
        &snapshot,
        Question {
            method: &arguments.method,
            scheme: url.scheme,
            target: &url.target,
            headers: headers(arguments)?,
            session,
            granted: &arguments.roles,
            now,
        },
    );
    if arguments.cookie.as_deref().is_some_and(|cookie| is_bare_token(cookie.as_bytes())) {
        let note = "--cookie looks like a bare token: put the name of its cookie and = in front";
        explanation.notes.push(note.to_owned());
    }
    let told = Told { explanation, snapshot: &snapshot, arguments, stands_in, now };
    print(|out| if arguments.json { writeln!(out, "{}", told.json()) } else { told.tell(out) })?;
    Ok(ExitCode::SUCCESS)
}

/// What `--claims` and `--role` say instead of a cookie.
fn stand_in(arguments: &ExplainArgs, snapshot: &Snapshot) -> anyhow::Result<Option<Session>> {
    match &arguments.claims {
        Some(file) => from_claims(file, snapshot, None).map(Some),
        None if arguments.roles.is_empty() => Ok(None),
        None => from_text(r#"{"sub":"somebody"}"#, snapshot, None).map(Some),
    }
}

/// A URL whose tail is taken byte for byte, as it would stand in a request line.
#[derive(Clone)]
pub(crate) struct Url {
    scheme: &'static str,
    host: HeaderValue,
    target: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let schemes = ["http", "https"].into_iter();
        let split = |scheme| Some((scheme, text.strip_prefix(scheme)?.strip_prefix("://")?));
        let Some((scheme, rest)) = schemes.filter_map(split).next() else {
            return Err("a URL begins with http:// or https://".to_owned());
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = if target.is_empty() { "/" } else { target }.to_owned();
        let host = authority.parse().map_err(|_| "no header takes this host".to_owned())?;
        Ok(Self { scheme, host, target })
    }
}

/// A header as curl takes it.
#[derive(Clone)]
pub(crate) struct HeaderLine(HeaderName, HeaderValue);

impl FromStr for HeaderLine {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (name, value) = line.split_once(':').ok_or("expected 'Name: value'")?;
        let name = name.trim().parse().map_err(|_| "what stands before the colon is no name")?;
        let value = value.trim().parse().map_err(|_| "no header takes this value")?;
        Ok(Self(name, value))
    }
}

fn headers(arguments: &ExplainArgs) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, arguments.url.host.clone());
    for HeaderLine(name, value) in &arguments.headers {
        headers.append(name, value.clone());
    }
    if let Some(cookie) = &arguments.cookie {
        let value = HeaderValue::from_bytes(without_name(cookie.as_bytes()));
        headers.append(header::COOKIE, value.context("no header takes what --cookie has")?);
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

    fn named(&self, index: usize) -> String {
        self.rule_text(index).map_or_else(|| "a rule".to_owned(), RuleText::to_string)
    }

    fn rule_text(&self, index: usize) -> Option<&RuleText> {
        self.snapshot.apps[self.explanation.app?].rules.get(index)
    }

    fn tell(&self, out: &mut dyn Write) -> io::Result<()> {
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
            let subject = session.subject().unwrap_or_else(|| "no sub".into());
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
}

fn tell_refusal(out: &mut dyn Write, refused: &Refusing) -> io::Result<()> {
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
