//! What Foregate answers by itself on every app host, under `/.foregate/`. None of it reaches an
//! app, whatever the spelling of the prefix.

use std::time::Duration;

use bytes::Bytes;
use foregate_policy::Head;
use foregate_refresh::TokenEndpoint;
use foregate_session::{ClaimPath, Cookies, Session, UnixSeconds};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use crate::admission::{Found, Gate, Refused, Standing, random};
use crate::answers::cache::{PRIVATE, set_cookies};
use crate::answers::callback;
use crate::answers::respond::Reply;
use crate::auth;

/// A reserved path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    Session,
    SignOut,
    /// The decision endpoint, whatever stands behind its name.
    Auth,
    /// Nothing of that name, or another spelling of the prefix.
    Unknown,
}

impl Own {
    /// What a canonical path names; `None` where it is the app's own.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let rest = path.get(PREFIX.len()..)?;
        let prefix = &path[..PREFIX.len()];
        if !prefix.eq_ignore_ascii_case(PREFIX)
            || !(rest.is_empty() || rest.starts_with(['/', ';']))
        {
            return None;
        }
        Some(match path {
            "/.foregate/session" => Self::Session,
            "/.foregate/sign-out" => Self::SignOut,
            path if auth::behind(path).is_some() => Self::Auth,
            _ => Self::Unknown,
        })
    }
}

const PREFIX: &str = "/.foregate";

impl<E: TokenEndpoint> Gate<'_, E> {
    /// `GET /.foregate/session`: who is signed in, and until when. Never a token. `found` gets what
    /// the cookies came to.
    pub(crate) async fn own_session(
        &self,
        head: &Head<'_>,
        cookies: &Cookies<'_>,
        now: UnixSeconds,
        found: &mut Found,
    ) -> Result<Response<Full<Bytes>>, Reply> {
        if !matches!(head.method(), "GET" | "HEAD") {
            return Err(Reply::wrong_method("GET, HEAD"));
        }
        let opened = self.snapshot.keyring.open(cookies, now);
        *found = Found::of(&opened, self.snapshot, now);
        let (Ok(session), Found::Session { .. }) = (opened, *found) else {
            return Ok(json(&serde_json::Value::Null, &[]));
        };
        match self.look_after(session, true, now).await {
            Standing::Good(session) => Ok(json(&self.described(&session), &[])),
            Standing::Renewed(session) => {
                let keyring = &self.snapshot.keyring;
                let sealed = keyring.seal(&session, now, random());
                Ok(json(&self.described(&session), &keyring.set_cookies(&sealed, cookies)))
            }
            Standing::Waiting { reason, retry_after } => {
                let refused = Refused::Unavailable { reason, retry_after };
                Err(Reply::refusal(&refused, Some(head), "", self.snapshot))
            }
            Standing::Ended => {
                *found = Found::Refused;
                let cleared = self.snapshot.keyring.clear_cookies(cookies);
                Ok(json(&serde_json::Value::Null, &cleared))
            }
        }
    }

    fn described(&self, session: &Session) -> serde_json::Value {
        let text = |name| {
            let path = ClaimPath::in_session(name).ok()?;
            Some(session.claim(&path)?.as_str()?.into_owned())
        };
        let ahead = self.snapshot.refresh.ahead;
        let refresh_at = session.refresh_token().and_then(|_| session.due_at(ahead));
        serde_json::json!({
            "subject": session.subject(),
            "name": text("name"),
            "email": text("email"),
            "roles": self.snapshot.rules.roles(session).iter().collect::<Vec<_>>(),
            "expires_at": session.expires_at().map(|end| end.0),
            "access_expires_at": session.access_expires_at().map(|end| end.0),
            "refresh_at": refresh_at.map(|at| at.0),
        })
    }

    /// `POST /.foregate/sign-out`: ends the session everywhere and forgets its cookies.
    pub(crate) async fn own_sign_out(
        &self,
        head: &Head<'_>,
        form: impl Future<Output = Option<Bytes>>,
        cookies: &Cookies<'_>,
        now: UnixSeconds,
    ) -> Result<Response<Full<Bytes>>, Reply> {
        if head.method() != "POST" {
            return Err(Reply::wrong_method("POST"));
        }
        if !self.snapshot.rules.admits_site(head) {
            return Err(Reply::cross_site());
        }
        if let Ok(session) = self.snapshot.keyring.open(cookies, now) {
            self.refresher.end(&session, now).await;
        }
        let form = form.await.unwrap_or_default();
        let query = head.query().unwrap_or_default();
        let asked = field(&form, CALLBACK).or_else(|| field(query.as_bytes(), CALLBACK));
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if head.is_navigation() {
            *response.status_mut() = StatusCode::SEE_OTHER;
            let back = callback::safe(asked.as_deref(), self.snapshot);
            let back = HeaderValue::from_str(&back).unwrap_or(HeaderValue::from_static("/"));
            response.headers_mut().insert(header::LOCATION, back);
        }
        set_cookies(response.headers_mut(), &self.snapshot.keyring.sign_out_cookies(cookies));
        Ok(response)
    }
}

const CALLBACK: &str = "callbackUrl";

/// The request's urlencoded form, if it has one of a sensible size that comes within `patience`.
pub(crate) async fn form(
    headers: &HeaderMap,
    body: &mut Incoming,
    patience: Duration,
) -> Option<Bytes> {
    let media_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let form = Limited::new(body, FORM_BYTES).collect();
    Some(tokio::time::timeout(patience, form).await.ok()?.ok()?.to_bytes())
}

const FORM_BYTES: usize = 64 * 1024;

fn field(form: &[u8], name: &str) -> Option<String> {
    let mut fields = url::form_urlencoded::parse(form);
    fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn json(value: &serde_json::Value, cookies: &[String]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, PRIVATE);
    set_cookies(headers, cookies);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_prefix_is_ours() {
        let check =
            |path: &str, expected: Option<Own>| assert_eq!(Own::at(path), expected, "{path}");
        check("/.foregate/session", Some(Own::Session));
        check("/.foregate/sign-out", Some(Own::SignOut));
        check("/.foregate/auth", Some(Own::Auth));
        check("/.foregate/auth/", Some(Own::Auth));
        check("/.foregate/auth/.foregate/auth", Some(Own::Auth));
        check("/.foregate/authentic", Some(Own::Unknown));
        check("/.foregate/auth;a/b", Some(Own::Unknown));
        check("/.foregate/Auth", Some(Own::Unknown));
        check("/.foregate", Some(Own::Unknown));
        check("/.foregate/", Some(Own::Unknown));
        check("/.foregate/session/", Some(Own::Unknown));
        check("/.Foregate/session", Some(Own::Unknown));
        check("/.foregate;a/session", Some(Own::Unknown));
        check("/.foregated", None);
        check("/a/.foregate/session", None);
        check("/", None);
    }
}
