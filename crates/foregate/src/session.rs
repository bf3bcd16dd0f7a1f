//! `foregate session`: cookies opened and written with the operator's own secrets. Here, and only
//! here, claims are shown whole.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use foregate_config::Snapshot;
use foregate_session::{
    Cookies, Format, Freshness, NoSession, SealedSession, Session, Survey, UnixSeconds,
};
use serde_json::value::RawValue;

use crate::cli::{FormatArg, SessionCommand};
use crate::print::print;
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
pub(crate) fn without_name(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    match line.split_at_checked("cookie:".len()) {
        Some((name, value)) if name.eq_ignore_ascii_case(b"cookie:") => value.trim_ascii_start(),
        _ => line,
    }
}

/// Whether a cookie's value came without its name: a compact JWE whose key is not in it.
pub(crate) fn is_bare_token(line: &[u8]) -> bool {
    let parts: Vec<&[u8]> = line.trim_ascii().split(|byte| *byte == b'.').collect();
    matches!(parts[..], [header, [], ..] if parts.len() == 5 && header.starts_with(b"eyJ"))
}

fn decode(
    snapshot: &Snapshot,
    name: Option<&str>,
    now: UnixSeconds,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input).context("cannot read stdin")?;
    let line = without_name(&input);
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
    let mut decoded = Decoded::new(&survey, snapshot, now)?;
    if !decoded.opened {
        decoded.hint = slip(line, name.is_some());
    }
    let json = if json { Some(serde_json::to_string(&decoded)?) } else { None };
    print(|out| match json {
        Some(json) => writeln!(out, "{json}"),
        None => decoded.tell(now, out),
    })?;
    Ok(if decoded.opened { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What whoever sent `line` may have meant otherwise.
fn slip(line: &[u8], is_named: bool) -> Option<&'static str> {
    if line.is_empty() {
        Some("nothing stood on stdin: the value of a Cookie header is expected there")
    } else if !is_named && is_bare_token(line) {
        Some("this looks like a bare token: say by --name which cookie it comes from")
    } else if is_named && line.contains(&b'=') {
        Some("with --name the token alone is expected; leave it out for a Cookie header's value")
    } else {
        None
    }
}

/// What scripts read; absent members say nothing.
#[derive(serde::Serialize)]
struct Decoded<'s> {
    opened: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    #[serde(flatten)]
    session: Option<Opened<'s>>,
    #[serde(flatten)]
    times: Option<Times>,
    others: Vec<Other<'s>>,
}

#[derive(serde::Serialize)]
struct Opened<'s> {
    name: &'s str,
    format: &'static str,
    secret: usize,
    claims: Box<RawValue>,
    issued_at: Option<i64>,
    expires_at: Option<i64>,
    access_expires_at: Option<i64>,
    freshness: &'static str,
    /// Whether it is somebody's; a session that is not counts as none.
    #[serde(skip)]
    names_somebody: bool,
    #[serde(skip)]
    has_access_token: bool,
}

/// Of a session that is over, or has not begun.
#[derive(serde::Serialize)]
struct Times {
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
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
            Ok(session) => Self {
                opened: true,
                reason: None,
                detail: None,
                hint: None,
                session: Some(Opened::new(session, snapshot, now)?),
                times: None,
                others,
            },
            Err(why) => Self {
                opened: false,
                reason: Some(why.reason()),
                detail: Some(why.detail()),
                hint: None,
                session: None,
                times: Times::of(*why),
                others,
            },
        })
    }

    fn tell(&self, now: UnixSeconds, out: &mut dyn Write) -> io::Result<()> {
        // The one that `detail` speaks of.
        let mut told = None;
        match &self.session {
            Some(session) => session.tell(now, out)?,
            None => {
                let detail = self.detail.as_deref().unwrap_or_default();
                told = self.others.iter().position(|other| other.detail == detail);
                match told.and_then(|index| self.others.get(index)) {
                    Some(Other { name, .. }) => writeln!(out, "no session: {name}: {detail}")?,
                    None => writeln!(out, "no session: {detail}")?,
                }
            }
        }
        if let Some(Times { issued_at, valid_from, expires_at }) = self.times {
            let titles = ["sealed at  ", "valid from ", "ended at   "];
            for (title, at) in titles.into_iter().zip([issued_at, valid_from, expires_at]) {
                at.map_or(Ok(()), |at| writeln!(out, "{title}{at}, {}", away(at, now)))?;
            }
        }
        for (index, other) in self.others.iter().enumerate() {
            if told != Some(index) {
                writeln!(out, "not taken: {}: {}", other.name, other.detail)?;
            }
        }
        self.hint.map_or(Ok(()), |hint| writeln!(out, "hint: {hint}"))
    }
}

impl Times {
    fn of(why: NoSession) -> Option<Self> {
        match why {
            NoSession::Expired { sealed_at, expires_at } => Some(Self {
                issued_at: sealed_at.map(|at| at.0),
                valid_from: None,
                expires_at: Some(expires_at.0),
            }),
            NoSession::NotYetValid { valid_from } => {
                Some(Self { issued_at: None, valid_from: Some(valid_from.0), expires_at: None })
            }
            _ => None,
        }
    }
}

impl<'s> Opened<'s> {
    fn new(session: &'s Session, snapshot: &Snapshot, now: UnixSeconds) -> anyhow::Result<Self> {
        Ok(Self {
            name: session.cookie_name(),
            format: session.format().as_str(),
            secret: session.secret_index(),
            claims: RawValue::from_string(session.claims_json().to_owned())?,
            issued_at: session.sealed_at().map(|at| at.0),
            expires_at: session.expires_at().map(|end| end.0),
            access_expires_at: session.access_expires_at().map(|end| end.0),
            freshness: freshness_word(session, snapshot, now),
            names_somebody: session.has_identity(),
            has_access_token: session.access_token().is_some(),
        })
    }

    fn tell(&self, now: UnixSeconds, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} opens: {}, secret {}", self.name, self.format, self.secret)?;
        let claims: serde_json::Value = serde_json::from_str(self.claims.get())?;
        writeln!(out, "{claims:#}")?;
        let time = |at: Option<i64>| match at {
            Some(at) => format!("{at}, {}", away(at, now)),
            None => "unknown".to_owned(),
        };
        writeln!(out, "sealed at         {}", time(self.issued_at))?;
        writeln!(out, "session ends      {}", time(self.expires_at))?;
        match self.has_access_token {
            true => {
                let end = time(self.access_expires_at);
                writeln!(out, "access token ends {end}: {}", self.freshness)?;
            }
            false => writeln!(out, "access token      none: requests go on without Authorization")?,
        }
        if !self.names_somebody {
            writeln!(out, "it names nobody: the gate takes it for no session ({IDENTITY})")?;
        }
        Ok(())
    }
}

const IDENTITY: &str = "none of sub, email, user and an access token is in it";

/// How far a time is from now, as a person counts.
fn away(at: i64, UnixSeconds(now): UnixSeconds) -> String {
    let seconds = at.saturating_sub(now);
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds")];
    let fits = |(unit, _): &(u64, &str)| seconds.unsigned_abs() >= 2 * unit;
    let (unit, name) = units.into_iter().find(fits).unwrap_or((1, "second"));
    let count = seconds.unsigned_abs() / unit;
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {count} {name}"),
        _ => format!("{count} {name} ago"),
    }
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
    let format = format.map(|format| match format {
        FormatArg::NextAuthV4 => Format::NextAuthV4,
        FormatArg::AuthjsV5 => Format::AuthjsV5,
    });
    let session = from_claims(claims, snapshot, format)?;
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("no randomness")?;
    let sealed = snapshot.keyring.seal(&session, now, random);
    let lines = set_cookie_lines(snapshot, &sealed);
    print(|out| {
        if set_cookie {
            return lines.iter().try_for_each(|line| writeln!(out, "Set-Cookie: {line}"));
        }
        let pairs: Vec<&str> = lines.iter().filter_map(|line| line.split(';').next()).collect();
        writeln!(out, "{}", pairs.join("; "))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The session of the payload that a file holds.
pub(crate) fn from_claims(
    file: &Path,
    snapshot: &Snapshot,
    format: Option<Format>,
) -> anyhow::Result<Session> {
    let text = input(file)?;
    from_text(&text, snapshot, format).with_context(|| format!("--claims {}", file.display()))
}

/// The session of a payload, which must be somebody's.
pub(crate) fn from_text(
    text: &str,
    snapshot: &Snapshot,
    format: Option<Format>,
) -> anyhow::Result<Session> {
    let read = |text: &str| snapshot.keyring.session_from_claims(text, format);
    let session = read(text).map_err(|why| anyhow!("{why}. {EXPECTED_CLAIMS}"))?;
    if session.has_identity() {
        return Ok(session);
    }
    let is_somebody = |text: &str| read(text).is_ok_and(|session| session.has_identity());
    let value = serde_json::from_str(text).unwrap_or_default();
    match payload_within(&value, 3, &is_somebody) {
        Some(place) => {
            bail!("it names nobody, but its `{place}` does: that alone is the payload")
        }
        None => bail!("it names nobody: {IDENTITY}. {EXPECTED_CLAIMS}"),
    }
}

const EXPECTED_CLAIMS: &str = "The cookie's payload is expected, as `foregate session decode` \
                               prints it: {\"sub\":\"1\",\"email\":\"ada@example.com\"}";

/// Where, at most so many tables deep, a payload stands that names somebody.
fn payload_within(
    value: &serde_json::Value,
    depth: usize,
    is_somebody: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let members = value.as_object().filter(|_| depth > 0)?;
    members.iter().filter(|(_, inner)| inner.is_object()).find_map(|(name, inner)| {
        if is_somebody(&inner.to_string()) {
            return Some(name.clone());
        }
        Some(format!("{name}.{}", payload_within(inner, depth - 1, is_somebody)?))
    })
}

fn set_cookie_lines(snapshot: &Snapshot, sealed: &SealedSession) -> Vec<String> {
    snapshot.keyring.set_cookies(sealed, &Cookies::parse([]))
}
