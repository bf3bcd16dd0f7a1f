//! `foregate session`: cookies opened and written with the operator's own secrets. Here, and only
//! here, claims are shown whole.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use foregate_config::Snapshot;
use foregate_session::{
    Cookies, Format, Freshness, NoSession, SealedSession, Session, Survey, UnixSeconds,
};
use serde_json::value::RawValue;

use crate::cli::{FormatArg, SessionCommand};
use crate::{FAILED, input, load};

pub(crate) fn command(command: SessionCommand) -> anyhow::Result<ExitCode> {
    let config = match &command {
        SessionCommand::Decode { config, .. } | SessionCommand::Mint { config, .. } => config,
    };
    let snapshot = match load(&config.path) {
        Ok(loaded) => loaded.snapshot,
        Err(code) => return Ok(code),
    };
    match command {
        SessionCommand::Decode { name, now, json, .. } => {
            decode(&snapshot, name.as_deref(), at(now), json)
        }
        SessionCommand::Mint { claims, format, now, set_cookie, .. } => {
            mint(&snapshot, &claims, format, at(now), set_cookie)
        }
    }
}

/// The time to judge by: as given, else the clock.
pub(crate) fn at(now: Option<i64>) -> UnixSeconds {
    let clock = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    UnixSeconds(now.unwrap_or_else(clock))
}

/// A `Cookie` header's value, from whoever copied the whole line.
fn without_name(line: &[u8]) -> &[u8] {
    match line.split_at_checked("cookie:".len()) {
        Some((name, value)) if name.eq_ignore_ascii_case(b"cookie:") => value.trim_ascii_start(),
        _ => line,
    }
}

fn decode(
    snapshot: &Snapshot,
    name: Option<&str>,
    now: UnixSeconds,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).context("cannot read stdin")?;
    let line = input.strip_suffix(b"\n").unwrap_or(&input);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = without_name(line);
    let survey = match name {
        None => snapshot.keyring.survey(&Cookies::parse([line]), now),
        Some(name) => Survey {
            session: match std::str::from_utf8(line) {
                Ok(token) => snapshot.keyring.open_token(name, token, now),
                Err(_) => Err(NoSession::BadToken),
            },
            others: Vec::new(),
        },
    };
    let decoded = Decoded::new(&survey, snapshot, now)?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &decoded)?;
        writeln!(out)?;
    } else {
        decoded.tell(now, &mut out)?;
    }
    Ok(if decoded.opened { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What scripts read; absent members say nothing.
#[derive(serde::Serialize)]
struct Decoded<'s> {
    opened: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(flatten)]
    session: Option<Opened<'s>>,
    others: Vec<Other<'s>>,
}

#[derive(serde::Serialize)]
struct Opened<'s> {
    name: &'s str,
    format: &'static str,
    secret: usize,
    claims: Box<RawValue>,
    expires_at: Option<i64>,
    access_expires_at: Option<i64>,
    freshness: &'static str,
}

/// A cookie that was looked at and not taken.
#[derive(serde::Serialize)]
struct Other<'s> {
    name: &'s str,
    reason: &'static str,
    /// For people.
    #[serde(skip)]
    detail: String,
}

impl<'s> Decoded<'s> {
    fn new(survey: &'s Survey, snapshot: &Snapshot, now: UnixSeconds) -> anyhow::Result<Self> {
        let others = survey.others.iter();
        let others = others
            .map(|(name, why)| Other { name, reason: why.reason(), detail: why.detail() })
            .collect();
        Ok(match &survey.session {
            Ok(session) => {
                let session = Some(Opened::new(session, snapshot, now)?);
                Self { opened: true, reason: None, detail: None, session, others }
            }
            Err(why) => {
                let (reason, detail) = (Some(why.reason()), Some(why.detail()));
                Self { opened: false, reason, detail, session: None, others }
            }
        })
    }

    fn tell(&self, now: UnixSeconds, out: &mut impl Write) -> anyhow::Result<()> {
        match &self.session {
            Some(session) => {
                let format = session.format;
                writeln!(out, "{} opens: {format}, secret {}", session.name, session.secret)?;
                let claims: serde_json::Value = serde_json::from_str(session.claims.get())?;
                writeln!(out, "{claims:#}")?;
                let time = |at: Option<i64>| match at {
                    Some(at) => format!("{at}, {}", away(at, now)),
                    None => "unknown".to_owned(),
                };
                writeln!(out, "session ends      {}", time(session.expires_at))?;
                let end = time(session.access_expires_at);
                writeln!(out, "access token ends {end}: {}", session.freshness)?;
            }
            None => {
                let detail = self.detail.as_deref().unwrap_or_default();
                writeln!(out, "no session: {detail}")?;
            }
        }
        for other in &self.others {
            writeln!(out, "not taken: {}: {}", other.name, other.detail)?;
        }
        Ok(())
    }
}

impl<'s> Opened<'s> {
    fn new(session: &'s Session, snapshot: &Snapshot, now: UnixSeconds) -> anyhow::Result<Self> {
        Ok(Self {
            name: session.cookie_name(),
            format: session.format().as_str(),
            secret: session.secret_index(),
            claims: RawValue::from_string(session.claims_json().to_owned())?,
            expires_at: session.expires_at().map(|end| end.0),
            access_expires_at: session.access_expires_at().map(|end| end.0),
            freshness: freshness_word(session, snapshot, now),
        })
    }
}

/// How far a time is from now, as a person counts.
fn away(at: i64, UnixSeconds(now): UnixSeconds) -> String {
    let seconds = at.saturating_sub(now);
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds")];
    let fits = |(unit, _): &(u64, &str)| seconds.unsigned_abs() >= 2 * unit;
    let (unit, name) = units.into_iter().find(fits).unwrap_or((1, "seconds"));
    let count = seconds.unsigned_abs() / unit;
    if seconds < 0 { format!("{count} {name} ago") } else { format!("in {count} {name}") }
}

/// How the access token stands, in the word that scripts read.
pub(crate) fn freshness_word(
    session: &Session,
    snapshot: &Snapshot,
    now: UnixSeconds,
) -> &'static str {
    match session.freshness(now, snapshot.refresh.ahead) {
        Freshness::Fresh => "fresh",
        Freshness::Due => "due",
        Freshness::Ended => "ended",
    }
}

fn mint(
    snapshot: &Snapshot,
    claims: &Path,
    format: Option<FormatArg>,
    now: UnixSeconds,
    set_cookie: bool,
) -> anyhow::Result<ExitCode> {
    let text = input(claims)?;
    let format = format.map(|format| match format {
        FormatArg::NextAuthV4 => Format::NextAuthV4,
        FormatArg::AuthjsV5 => Format::AuthjsV5,
    });
    let session = snapshot.keyring.session_from_claims(&text, format).context("the claims")?;
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("no randomness")?;
    let sealed = snapshot.keyring.seal(&session, now, random);
    let lines = set_cookie_lines(snapshot, &sealed);
    if set_cookie {
        for line in lines {
            println!("Set-Cookie: {line}");
        }
    } else {
        let pairs: Vec<&str> = lines.iter().filter_map(|line| line.split(';').next()).collect();
        println!("{}", pairs.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

fn set_cookie_lines(snapshot: &Snapshot, sealed: &SealedSession) -> Vec<String> {
    snapshot.keyring.set_cookies(sealed, &Cookies::parse([]))
}
