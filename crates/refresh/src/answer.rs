//! A backend's answer, read: new tokens, a refusal, or neither. No clock and no I/O.
//!
//! Only what the dialect calls a refusal is one. A success without a usable access token is a
//! fault of the backend, and so is everything else (contract: "Nobody is signed out by a blip").

use std::time::Duration;

use foregate_session::{Jwt, Secret, UnixSeconds};
use serde_json::Value;

use crate::endpoint::TokenAnswer;
use crate::outcome::{Fault, RefusalAnswer};

/// Where an answer keeps what, and which answers are refusals.
pub(crate) struct AnswerRules {
    pub(crate) access_token: Path,
    pub(crate) expires_at: Option<Path>,
    pub(crate) expires_in: Option<Path>,
    pub(crate) refresh_token: Path,
    pub(crate) refresh_expires_at: Option<Path>,
    pub(crate) refresh_expires_in: Option<Path>,
    pub(crate) id_token: Option<Path>,
    pub(crate) refusal: RefusalRule,
}

pub(crate) enum RefusalRule {
    /// One of these statuses.
    Status(Vec<u16>),
    /// `error = invalid_grant` (RFC 6749 §5.2), whichever 4xx it comes with. Every other error is
    /// about the request or the client, not about the token.
    InvalidGrant,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Redeemed(Redeemed),
    /// `None`: another process has heard it.
    Refused(Option<RefusalAnswer>),
    Unavailable {
        fault: Fault,
        retry_after: Option<Duration>,
    },
}

/// Tokens as they stand in an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Redeemed {
    pub(crate) access_token: Secret,
    pub(crate) access_expires_at: Option<UnixSeconds>,
    /// `None`: the old one stays.
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) refresh_expires_at: Option<UnixSeconds>,
    pub(crate) id_token: Option<Secret>,
}

impl AnswerRules {
    /// Lifetimes count from `sent_at`, since the backend began to count some time after that.
    pub(crate) fn read(&self, answer: &TokenAnswer, sent_at: UnixSeconds) -> Verdict {
        if (200..300).contains(&answer.status) {
            return match self.redeemed(&answer.body, sent_at) {
                Ok(redeemed) => Verdict::Redeemed(redeemed),
                Err(what) => Fault::Unusable(what).into(),
            };
        }
        let status = answer.status;
        let error = match &self.refusal {
            RefusalRule::Status(refused) if refused.contains(&status) => {
                return Verdict::Refused(Some(RefusalAnswer { status, error: None }));
            }
            RefusalRule::Status(_) => None,
            RefusalRule::InvalidGrant => oauth2_error(&answer.body),
        };
        if error.as_deref() == Some(INVALID_GRANT) && may_refuse(status) {
            return Verdict::Refused(Some(RefusalAnswer { status, error: Some(INVALID_GRANT) }));
        }
        let fault = Fault::Status { status, error };
        Verdict::Unavailable { fault, retry_after: answer.retry_after }
    }

    fn redeemed(&self, body: &[u8], sent_at: UnixSeconds) -> Result<Redeemed, &'static str> {
        let body: Value = serde_json::from_slice(body).map_err(|_| "is no JSON")?;
        let at = |path: &Option<Path>| path.as_ref().and_then(|path| path.find(&body));

        let access_token = self.access_token.find(&body).ok_or("has no access token")?;
        let access_token = secret(access_token).ok_or("has an unusable access token")?;
        let access_expires_at = at(&self.expires_at)
            .and_then(timestamp)
            .or_else(|| Some(sent_at.saturating_add(lifetime(at(&self.expires_in)?)?)))
            .or_else(|| Jwt::read(access_token.expose())?.expires_at());

        // An empty one means the same as none.
        let refresh_token = self.refresh_token.find(&body).filter(|token| *token != "");
        let refresh_token = match refresh_token {
            Some(token) => Some(secret(token).ok_or("has an unusable refresh token")?),
            None => None,
        };
        // 0 stands for a token without a fixed end (Keycloak's offline tokens); an end in the past
        // is nonsense.
        let refresh_expires_at = at(&self.refresh_expires_at)
            .and_then(timestamp)
            .or_else(|| Some(sent_at.saturating_add(lifetime(at(&self.refresh_expires_in)?)?)))
            .filter(|end| *end > sent_at)
            .or_else(|| Jwt::read(refresh_token.as_ref()?.expose())?.expires_at())
            .filter(|end| *end > sent_at);

        let id_token = at(&self.id_token).and_then(secret);
        Ok(Redeemed {
            access_token,
            access_expires_at,
            refresh_token,
            refresh_expires_at,
            id_token,
        })
    }
}

/// What OAuth 2 says of a refresh token that is no good (RFC 6749 §5.2).
const INVALID_GRANT: &str = "invalid_grant";

/// The statuses that may mean "this token is no good": 4xx, but for those that speak of the moment
/// (408 Request Timeout, 425 Too Early, 429 Too Many Requests).
pub(crate) fn may_refuse(status: u16) -> bool {
    (400..500).contains(&status) && ![408, 425, 429].contains(&status)
}

impl From<Fault> for Verdict {
    fn from(fault: Fault) -> Self {
        Self::Unavailable { fault, retry_after: None }
    }
}

/// A dotted path into an answer. A number names an item of a list.
#[derive(Debug, PartialEq)]
pub(crate) struct Path(Vec<Box<str>>);

impl Path {
    /// `None`: a step is empty.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let steps: Vec<Box<str>> = text.split('.').map(Box::from).collect();
        steps.iter().all(|step| !step.is_empty()).then_some(Self(steps))
    }

    /// What stands there; `null` is nothing.
    fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        let step = |value: &'v Value, step: &str| match value {
            Value::Object(members) => members.get(step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        let found = self.0.iter().try_fold(value, |value, name| step(value, name))?;
        (!found.is_null()).then_some(found)
    }
}

/// Seconds or milliseconds since 1970, told apart by size: 10^11 is the year 5138 or 1973. Zero and
/// below say nothing.
fn timestamp(value: &Value) -> Option<UnixSeconds> {
    let number = number(value).filter(|number| *number > 0.0)?;
    let seconds = if number < 1e11 { number } else { number / 1000.0 };
    Some(UnixSeconds(seconds as i64))
}

/// Seconds from now; what is negative has no life at all.
fn lifetime(value: &Value) -> Option<Duration> {
    Some(Duration::from_secs(number(value)? as u64))
}

/// A number, or a string that holds one.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    number.is_finite().then_some(number)
}

/// A token that fits into a header: visible ASCII, not empty.
fn secret(value: &Value) -> Option<Secret> {
    let token = value.as_str()?;
    let fits = (1..=TOKEN_BYTES).contains(&token.len());
    (fits && token.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Secret::new(token))
}

/// Three such tokens, sealed, are more cookies than any browser sends: what is longer would lock
/// its visitor out.
const TOKEN_BYTES: usize = 16 * 1024;

/// The `error` of an OAuth 2 answer, if it looks like one of the registered words: anything else
/// might quote the request, and this goes into logs.
fn oauth2_error(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let word = body.get("error")?.as_str()?;
    let is_word = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (is_word && word.len() <= 40).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::{ClientAuth, Dialect, Exchange, RefreshSpec};
    use crate::template::Client;

    const SENT: UnixSeconds = UnixSeconds(1_800_000_000);
    /// `{"sub":"ann","exp":1800000300}`
    const JWT: &str = "e30.eyJzdWIiOiJhbm4iLCJleHAiOjE4MDAwMDAzMDB9.c2ln";
    const DIALECTS: [Dialect; 3] = [Dialect::Json, Dialect::OAuth2, Dialect::SimpleJwt];

    fn rules(dialect: Dialect, spec: RefreshSpec) -> AnswerRules {
        let client = Client { id: None, secret: None };
        Exchange::compile(dialect, &client, ClientAuth::Post, spec, &mut Vec::new()).unwrap().answer
    }

    fn read(rules: &AnswerRules, status: u16, body: &[u8]) -> Verdict {
        let answer = TokenAnswer { status, retry_after: None, body: body.to_vec() };
        rules.read(&answer, SENT)
    }

    /// An answer in a few words: access token and its end, refresh token and its end.
    fn told(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Redeemed(redeemed) => {
                let end = |end: Option<UnixSeconds>| match end {
                    Some(end) => (end.0 - SENT.0).to_string(),
                    None => "?".to_owned(),
                };
                let refresh = redeemed.refresh_token.as_ref().map_or("", Secret::expose);
                let id = redeemed.id_token.as_ref().map(|id| format!(" id {}", id.expose()));
                format!(
                    "{} {}, {refresh} {}{}",
                    redeemed.access_token.expose().replace(JWT, "JWT"),
                    end(redeemed.access_expires_at),
                    end(redeemed.refresh_expires_at),
                    id.unwrap_or_default()
                )
            }
            Verdict::Refused(Some(answer)) => format!("refused: {answer}"),
            Verdict::Refused(None) => "refused elsewhere".to_owned(),
            Verdict::Unavailable { fault, .. } => fault.to_string(),
        }
    }

    fn check(rules: &AnswerRules, status: u16, body: &str, expected: &str) {
        let body = body.replace("JWT", JWT);
        assert_eq!(told(&read(rules, status, body.as_bytes())), expected, "{status} {body}");
    }

    #[test]
    fn seed_a_s_answers_are_read() {
        let rules = rules(Dialect::Json, RefreshSpec::default());
        let check = |status: u16, body: &str, expected: &str| check(&rules, status, body, expected);
        let both = r#"{"accessToken":"a","accessTokenExpiry":1800000060000,"refreshToken":"r"}"#;
        check(200, both, "a 60, r ?");
        check(201, r#"{"accessToken":"a","accessTokenExpiry":1800000060}"#, "a 60,  ?");
        check(200, r#"{"accessToken":"a","accessTokenExpiry":"1800000060000"}"#, "a 60,  ?");
        check(200, r#"{"accessToken":"a","accessTokenExpiry":1800000060999.9}"#, "a 60,  ?");
        check(200, r#"{"accessToken":"JWT","accessTokenExpiry":1800000060}"#, "JWT 60,  ?");
        check(200, r#"{"accessToken":"JWT","accessTokenExpiry":null}"#, "JWT 300,  ?");
        check(200, r#"{"accessToken":"JWT","accessTokenExpiry":"soon"}"#, "JWT 300,  ?");
        check(200, r#"{"accessToken":"JWT","accessTokenExpiry":0}"#, "JWT 300,  ?");
        check(200, r#"{"accessToken":"a"}"#, "a ?,  ?");
        check(200, r#"{"accessToken":"a","refreshToken":null}"#, "a ?,  ?");
        check(200, r#"{"accessToken":"a","refreshToken":""}"#, "a ?,  ?");
        check(200, r#"{"accessToken":"a","refreshToken":"JWT"}"#, &format!("a ?, {JWT} 300"));
        check(200, r#"{"accessToken":"a","id_token":"i"}"#, "a ?,  ?");
        for status in [400, 401, 403] {
            check(status, "", &format!("refused: {status}"));
        }
        for status in [100, 302, 404, 408, 418, 429, 500, 502, 503] {
            check(status, both, &format!("the backend answered {status}"));
        }
    }

    #[test]
    fn oauth2_answers_are_read() {
        let rules = rules(Dialect::OAuth2, RefreshSpec::default());
        let check = |status: u16, body: &str, expected: &str| check(&rules, status, body, expected);
        check(200, r#"{"access_token":"a","expires_in":60,"refresh_token":"r"}"#, "a 60, r ?");
        check(200, r#"{"access_token":"a","expires_in":"60"}"#, "a 60,  ?");
        check(200, r#"{"access_token":"a","expires_in":0}"#, "a 0,  ?");
        check(200, r#"{"access_token":"a","expires_in":-5}"#, "a 0,  ?");
        check(200, r#"{"access_token":"JWT"}"#, "JWT 300,  ?");
        check(
            200,
            r#"{"access_token":"a","refresh_token":"r","refresh_expires_in":1800}"#,
            "a ?, r 1800",
        );
        check(
            200,
            r#"{"access_token":"a","refresh_token":"r","refresh_expires_in":0}"#,
            "a ?, r ?",
        );
        check(200, r#"{"access_token":"a","refresh_expires_in":1800}"#, "a ?,  1800");
        check(200, r#"{"access_token":"a","id_token":"i"}"#, "a ?,  ? id i");
        check(200, r#"{"access_token":"a","id_token":{}}"#, "a ?,  ?");

        for status in [400, 401, 403] {
            check(
                status,
                r#"{"error":"invalid_grant","error_description":"x"}"#,
                &format!("refused: {status} invalid_grant"),
            );
        }
        for error in ["invalid_client", "invalid_request", "unauthorized_client", "server_error"] {
            let body = format!(r#"{{"error":"{error}"}}"#);
            check(400, &body, &format!("the backend answered 400 ({error})"));
            check(401, &body, &format!("the backend answered 401 ({error})"));
        }
        check(429, r#"{"error":"invalid_grant"}"#, "the backend answered 429 (invalid_grant)");
        check(500, r#"{"error":"invalid_grant"}"#, "the backend answered 500 (invalid_grant)");
        check(200, r#"{"error":"invalid_grant"}"#, "the backend's answer has no access token");
        check(400, r#"{"error":"No such token: S3CRET"}"#, "the backend answered 400");
        check(400, r#"{"error":{"code":"invalid_grant"}}"#, "the backend answered 400");
        check(400, "invalid_grant", "the backend answered 400");
        check(403, "", "the backend answered 403");
    }

    #[test]
    fn simplejwt_answers_are_read() {
        let rules = rules(Dialect::SimpleJwt, RefreshSpec::default());
        let check = |status: u16, body: &str, expected: &str| check(&rules, status, body, expected);
        check(200, r#"{"access":"JWT"}"#, "JWT 300,  ?");
        check(200, r#"{"access":"JWT","refresh":"r"}"#, "JWT 300, r ?");
        check(200, r#"{"access":"JWT","refresh":"JWT"}"#, &format!("JWT 300, {JWT} 300"));
        check(401, r#"{"detail":"x","code":"token_not_valid"}"#, "refused: 401");
        check(400, r#"{"refresh":["This field is required."]}"#, "the backend answered 400");
        check(403, "", "the backend answered 403");
    }

    #[test]
    fn a_success_without_usable_tokens_is_the_backend_s_fault() {
        let rules = rules(Dialect::SimpleJwt, RefreshSpec::default());
        let check = |body: &[u8], expected: &str| {
            let expected = format!("the backend's answer {expected}");
            assert_eq!(told(&read(&rules, 200, body)), expected);
        };
        check(b"", "is no JSON");
        check(b"<html>", "is no JSON");
        check(b"\xff", "is no JSON");
        check("[".repeat(100_000).as_bytes(), "is no JSON");
        check(b"null", "has no access token");
        check(b"[]", "has no access token");
        check(br#"{"access":null}"#, "has no access token");
        for token in [r#""""#, "7", "{}", r#""a b""#, r#""a\n""#, r#""\u00e9""#, r#""a\u0000""#] {
            check(format!(r#"{{"access":{token}}}"#).as_bytes(), "has an unusable access token");
        }
        for token in ["7", "{}", "false", r#""a b""#, r#""\u00e9""#] {
            let body = format!(r#"{{"access":"a","refresh":{token}}}"#);
            check(body.as_bytes(), "has an unusable refresh token");
        }
    }

    #[test]
    fn paths_lead_anywhere() {
        let path = |text: &str| Some(text.to_owned());
        let spec = RefreshSpec {
            access_token: path("data.tokens.0.value"),
            expires_in: path("data.ttl"),
            refresh_expires_at: path("data.end"),
            ..RefreshSpec::default()
        };
        let rules = rules(Dialect::Json, spec);
        let check = |body: &str, expected: &str| check(&rules, 200, body, expected);
        check(r#"{"data":{"tokens":[{"value":"a"}],"ttl":60},"refreshToken":"r"}"#, "a 60, r ?");
        check(r#"{"data":{"tokens":[{"value":"a"}],"end":1800000060000}}"#, "a ?,  60");
        check(r#"{"data":{"tokens":[{"value":"a"}],"end":17}}"#, "a ?,  ?");
        // The default `accessTokenExpiry` counts no more.
        check(r#"{"data":{"tokens":[{"value":"a"}]},"accessTokenExpiry":1800000060}"#, "a ?,  ?");
        check(r#"{"data":{"tokens":[]}}"#, "the backend's answer has no access token");
        check(r#"{"data":"tokens"}"#, "the backend's answer has no access token");
        for text in ["", ".", "a.", ".a", "a..b"] {
            assert_eq!(Path::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_wish_to_be_left_alone_is_passed_on() {
        let rules = rules(Dialect::Json, RefreshSpec::default());
        let retry_after = Some(Duration::from_secs(7));
        let answer = TokenAnswer { status: 429, retry_after, body: Vec::new() };
        let fault = Fault::Status { status: 429, error: None };
        assert_eq!(rules.read(&answer, SENT), Verdict::Unavailable { fault, retry_after });
    }

    /// JSON that looks like an answer, in every way that it can look wrong.
    fn answers() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null".to_owned()),
            any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            (-400..400_i32).prop_map(|power| format!("1e{power}")),
            ".{0,12}".prop_map(|text| serde_json::json!(text).to_string()),
            "[0-9eE+.-]{0,12}".prop_map(|text| serde_json::json!(text).to_string()),
            "[a-zA-Z0-9_-]{0,4}\\.[a-zA-Z0-9_-]{0,40}\\.x".prop_map(|jwt| format!("\"{jwt}\"")),
            Just("[[{}]]".to_owned()),
        ];
        let names = [
            "accessToken",
            "accessTokenExpiry",
            "refreshToken",
            "access",
            "refresh",
            "error",
            "access_token",
            "expires_in",
            "refresh_token",
            "refresh_expires_in",
            "id_token",
        ];
        let member = (prop::sample::select(names.to_vec()), value)
            .prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop::collection::vec(member, 0..9).prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    proptest! {
        #[test]
        fn whatever_is_answered_gives_tokens_fit_for_a_header_or_none(
            body in prop_oneof![
                answers().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..40),
            ],
            status in 100..600_u16,
        ) {
            for dialect in DIALECTS {
                match read(&rules(dialect, RefreshSpec::default()), status, &body) {
                    Verdict::Redeemed(redeemed) => {
                        prop_assert!((200..300).contains(&status));
                        let tokens = [Some(redeemed.access_token), redeemed.refresh_token];
                        for token in tokens.into_iter().flatten() {
                            let token = token.expose();
                            prop_assert!(!token.is_empty());
                            prop_assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
                        }
                        prop_assert!(redeemed.refresh_expires_at.is_none_or(|end| end > SENT));
                    }
                    Verdict::Refused(_) => prop_assert!(may_refuse(status)),
                    Verdict::Unavailable { .. } => {}
                }
            }
        }
    }
}
