//! What the gate would do with a request, and why, without sending anything. It stands on the very
//! functions that admit and rewrite a request, so it cannot disagree with them.

use std::collections::BTreeMap;

use foregate_config::{Endpoint, Snapshot};
use foregate_policy::{Access, ExplainedReading, Head, Refusal};
use foregate_session::{Freshness, NoSession, Session, Survey, UnixSeconds};
use http::header::{self, HeaderMap};

use crate::admission::{Considered, Grant, Refused, consider, renewer};
use crate::answers::own::Own;
use crate::answers::respond::Reply;
use crate::peer::Peer;
use crate::request;
use crate::upstream::forward;

/// A request as it would stand on the wire, and who sends it.
pub struct Question<'q> {
    pub method: &'q str,
    /// `http` or `https`.
    pub scheme: &'q str,
    /// Path and query, byte for byte.
    pub target: &'q str,
    /// With `Host`, and `Cookie` where there is one.
    pub headers: HeaderMap,
    /// Stands for a cookie's session.
    pub session: Option<Session>,
    /// Roles beside those of the session's claims.
    pub granted: &'q [String],
    pub now: UnixSeconds,
}

/// What would come of it.
pub struct Explanation {
    /// Index into [`Snapshot::apps`].
    pub app: Option<usize>,
    /// The canonical path.
    pub path: Option<String>,
    /// Each reading of the path, and what the rules say to it.
    pub readings: Vec<ExplainedReading>,
    /// The rule that refuses, else the strictest; none where the app's own access counts.
    pub rule: Option<usize>,
    pub access: Option<Access>,
    /// What `rule` asks for: any one of them.
    pub roles: Vec<String>,
    /// `None`: the request passes.
    pub refused: Option<Refusing>,
    /// The visitor's session, whatever comes of it.
    pub session: Option<Session>,
    pub upstream: Option<Forwarded>,
    /// What else one should know.
    pub notes: Vec<String>,
}

/// The answer to a refused request.
pub struct Refusing {
    pub reason: &'static str,
    pub status: u16,
    pub location: Option<String>,
    /// For people.
    pub detail: String,
}

/// The request as the app would get it.
pub struct Forwarded {
    pub url: String,
    /// Headers that the gate writes, lower case; tokens and cookies are shown as `…`.
    pub set: BTreeMap<String, String>,
    /// Headers of the visitor that the app does not get.
    pub remove: Vec<String>,
}

/// Explains one request.
pub fn explain(snapshot: &Snapshot, question: Question<'_>) -> Explanation {
    let mut explanation = Explanation::new();
    let head = match request::head(question.method, None, question.target, &question.headers) {
        Ok(head) => head,
        Err(refusal) => {
            let detail = refusal.to_string();
            explanation.refuse(&refusal, detail, None, question.scheme, snapshot);
            return explanation;
        }
    };
    explanation.path = Some(head.path().as_str().to_owned());
    match snapshot.rules.explain_route(&head) {
        Ok(explained) => {
            explanation.app = Some(explained.app);
            explanation.readings = explained.readings;
        }
        Err(refusal) => {
            let detail = refusal.to_string();
            explanation.refuse(&refusal, detail, Some(&head), question.scheme, snapshot);
            return explanation;
        }
    }
    if let Some(own) = Own::at(head.path().as_str()) {
        explanation.notes.push("Foregate answers this path by itself".to_owned());
        if own == Own::Unknown {
            let reply = Reply::unknown_reserved();
            explanation.refused = Some(Refusing::new(&reply));
        }
        return explanation;
    }
    explanation.decide(snapshot, &head, &question);
    explanation
}

impl Explanation {
    fn new() -> Self {
        Self {
            app: None,
            path: None,
            readings: Vec::new(),
            rule: None,
            access: None,
            roles: Vec::new(),
            refused: None,
            session: None,
            upstream: None,
            notes: Vec::new(),
        }
    }

    fn decide(&mut self, snapshot: &Snapshot, head: &Head<'_>, question: &Question<'_>) {
        let cookies = request::cookies(&question.headers);
        let survey = snapshot.keyring.survey(&cookies, question.now);
        self.session = match &question.session {
            Some(session) => Some(session.clone()),
            None => {
                let opened = snapshot.keyring.open(&cookies, question.now);
                self.note_cookies(&survey, opened.is_ok());
                opened.ok()
            }
        };
        self.note_freshness(snapshot, question.now);
        let session = self.session.clone();
        let considered =
            consider(snapshot, head, || session.clone(), question.granted, question.now);
        let decided = match considered {
            Ok(Considered::Stranger { pass, own_authorization }) => {
                if session.as_ref().is_some_and(|_| !snapshot.rules.admits_site(head)) {
                    let note = "another site sends this with the visitor's cookie: nobody speaks";
                    self.notes.push(note.to_owned());
                }
                let grant = Grant::stranger(snapshot, pass, &cookies);
                Ok(Grant { own_authorization, ..grant })
            }
            Ok(Considered::Session { route, verdict, session }) => {
                let ahead = snapshot.refresh.ahead;
                let ended = session.freshness(question.now, ahead) == Freshness::Ended;
                if ended && !route.needs_session() {
                    route.without_session().map(|pass| Grant::stranger(snapshot, pass, &cookies))
                } else {
                    verdict.map(|pass| Grant::known(snapshot, pass, *session, &cookies))
                }
            }
            Err(refusal) => Err(refusal),
        };
        self.name_rule(snapshot, head, decided.as_ref().err(), question.granted);
        match decided {
            Ok(grant) => self.upstream = Some(forwarded(snapshot, head, &grant, question)),
            Err(refusal) => {
                let detail = refusal.to_string();
                self.refuse(&refusal, detail, Some(head), question.scheme, snapshot);
            }
        }
    }

    fn name_rule(
        &mut self,
        snapshot: &Snapshot,
        head: &Head<'_>,
        refusal: Option<&Refusal>,
        granted: &[String],
    ) {
        let Ok(route) = snapshot.rules.route(head) else { return };
        self.access = Some(route.access());
        self.rule = match refusal {
            Some(refusal) => route.refusing_rule(refusal, self.session.as_ref(), granted),
            None => route.rule(),
        };
        let rule = self.rule;
        if let Some(reading) = self.readings.iter().find(|reading| reading.rule == rule) {
            self.roles.clone_from(&reading.roles);
        }
    }

    fn note_cookies(&mut self, survey: &Survey, opened: bool) {
        // The one that the first note speaks of.
        let mut told = None;
        match &survey.session {
            Err(NoSession::Absent) => self.notes.push("no session cookie came".to_owned()),
            Err(why) => {
                told = survey.others.iter().position(|(_, other)| other == why);
                let name = told.map(|index| format!(" {}", survey.others[index].0));
                let end = match why {
                    NoSession::Expired { expires_at, .. } => format!(" at {}", expires_at.0),
                    _ => String::new(),
                };
                let name = name.unwrap_or_default();
                self.notes.push(format!("the session cookie{name} does not count: {why}{end}"));
            }
            Ok(_) if !opened => self.notes.push("the cookie opens, but names nobody".to_owned()),
            Ok(_) => {}
        }
        for (index, (name, why)) in survey.others.iter().enumerate() {
            if told != Some(index) {
                self.notes.push(format!("the cookie {name} is not taken: {why}"));
            }
        }
    }

    fn note_freshness(&mut self, snapshot: &Snapshot, now: UnixSeconds) {
        let Some(session) = &self.session else { return };
        let backend = renewer(snapshot, session).map(|backend| backend.name());
        let note = match (session.freshness(now, snapshot.refresh.ahead), backend) {
            (Freshness::Fresh, _) => return,
            (Freshness::Due, Some(name)) => {
                format!("the access token is due: {name} renews it behind the request")
            }
            (Freshness::Due, None) => "the access token ends soon, and nobody renews it".to_owned(),
            (Freshness::Ended, Some(name)) => format!(
                "the access token has ended: {name} renews it first, and the new one is decided on \
                 (unless the backend refuses it)"
            ),
            (Freshness::Ended, None) => {
                "the access token has ended and nobody renews it: the session is none".to_owned()
            }
        };
        self.notes.push(note);
    }

    fn refuse(
        &mut self,
        refusal: &Refusal,
        detail: String,
        head: Option<&Head<'_>>,
        scheme: &str,
        snapshot: &Snapshot,
    ) {
        let refused = Refused::Policy(refusal.clone());
        let reply = Reply::refusal(&refused, head, scheme, snapshot);
        let server = &snapshot.server;
        let comes_as_http = server.https.is_none() && server.trusted_proxies.is_empty();
        if scheme == "https" && reply.location.is_some() && comes_as_http {
            let note = "nothing here ends TLS: unless server.trusted_proxies names the proxy that \
                        does, visitors are sent back to http";
            self.notes.push(note.to_owned());
        }
        self.refused = Some(Refusing { detail, ..Refusing::new(&reply) });
    }
}

impl Refusing {
    fn new(reply: &Reply) -> Self {
        let location = reply.location.as_ref().and_then(|location| location.to_str().ok());
        Self {
            reason: reply.reason,
            status: reply.status.as_u16(),
            location: location.map(str::to_owned),
            detail: reply.detail().to_owned(),
        }
    }
}

fn forwarded(
    snapshot: &Snapshot,
    head: &Head<'_>,
    grant: &Grant,
    question: &Question<'_>,
) -> Forwarded {
    let before = &question.headers;
    let mut after = before.clone();
    let peer = Peer::imagined(question.scheme);
    forward::rewrite(&mut after, snapshot, grant, head.authority(), &peer);

    let values = |headers: &HeaderMap, name: &header::HeaderName| -> Vec<String> {
        let lines = headers.get_all(name).iter();
        lines.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let changed = |name: &&header::HeaderName| values(before, name) != values(&after, name);
    let set = after.keys().filter(changed).map(|name| {
        let value = values(&after, name).join(", ");
        (name.as_str().to_owned(), hidden(name, value, grant.session.as_ref()))
    });
    let rewritten = [header::HOST, header::COOKIE];
    let gone = |name: &&header::HeaderName| {
        !after.contains_key(*name) || (changed(name) && !rewritten.contains(*name))
    };
    let upstream = &snapshot.apps[grant.pass.app()].upstreams[0];
    let query = head.query().map(|query| ["?", query].concat()).unwrap_or_default();
    // As nginx writes it: where the socket's path ends and the request's begins.
    let behind_socket = match upstream.endpoint {
        Endpoint::Unix(_) => ":",
        Endpoint::Tcp { .. } => "",
    };
    Forwarded {
        url: [&upstream.url(), behind_socket, head.path().as_str(), &query].concat(),
        set: set.collect(),
        remove: before.keys().filter(gone).map(|name| name.as_str().to_owned()).collect(),
    }
}

/// No token and no cookie's value is shown.
fn hidden(name: &header::HeaderName, value: String, session: Option<&Session>) -> String {
    let tokens = session.map(|session| [session.access_token(), session.refresh_token()]);
    let holds_token = tokens.into_iter().flatten().flatten().any(|token| value.contains(token));
    match *name {
        header::AUTHORIZATION if holds_token => "Bearer …".to_owned(),
        header::COOKIE => {
            let names = value.split(';').map(|pair| pair.split('=').next().unwrap_or_default());
            names.map(|name| format!("{}=…", name.trim())).collect::<Vec<_>>().join("; ")
        }
        _ if holds_token => "…".to_owned(),
        _ => value,
    }
}
