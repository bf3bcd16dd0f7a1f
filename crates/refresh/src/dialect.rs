//! How a backend wants to be asked: `[backend.refresh]`, with each dialect's defaults filled in,
//! compiled to requests. Pure; what is wrong is collected, all of it.
//!
//! The dialects are those of the two seeds and of OAuth 2 (RFC 6749 §6); each only fills defaults.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use foregate_session::Secret;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::answer::{AnswerRules, Path, RefusalRule, may_refuse};
use crate::backend::BackendFault;
use crate::endpoint::TokenRequest;
use crate::template::{Client, JsonTemplate, Template, TemplateFault};
use crate::tokens::Held;

/// `[backend.refresh]`. `None` means: as the dialect says.
#[derive(Clone, Debug, Default)]
pub struct RefreshSpec {
    /// GET, POST, PUT or PATCH.
    pub method: Option<String>,
    pub encoding: Option<Encoding>,
    /// Strings may hold `{refresh_token}`, `{access_token}`, `{client_id}`, `{client_secret}`.
    pub body: Option<Map<String, Value>>,
    /// Values are templates, too.
    pub headers: BTreeMap<String, Secret>,
    /// Dotted paths into the answer, as all of the following.
    pub access_token: Option<String>,
    /// Seconds or milliseconds since 1970. Where this or `expires_in` is given, the dialect's
    /// default for neither counts.
    pub expires_at: Option<String>,
    /// Seconds from the request on.
    pub expires_in: Option<String>,
    pub refresh_token: Option<String>,
    pub refresh_expires_at: Option<String>,
    pub refresh_expires_in: Option<String>,
    pub id_token: Option<String>,
    /// Statuses that end a session. Not with `oauth2`.
    pub refused: Option<Vec<u16>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    Json,
    OAuth2,
    SimpleJwt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    Json,
    Form,
}

/// How a client proves itself (RFC 6749 §2.3.1): in the body, as far as that names it, or by HTTP
/// Basic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    Post,
    Basic,
}

/// Requests for one backend's tokens, and how to read its answers.
pub(crate) struct Exchange {
    method: &'static str,
    headers: Vec<(String, Template)>,
    body: Body,
    pub(crate) answer: AnswerRules,
}

enum Body {
    Empty,
    Json(JsonTemplate),
    Form(Vec<(String, Template)>),
}

impl Exchange {
    /// `None`: something was wrong, and stands in `faults`.
    pub(crate) fn compile(
        dialect: Dialect,
        client: &Client<'_>,
        auth: ClientAuth,
        spec: RefreshSpec,
        faults: &mut Vec<BackendFault>,
    ) -> Option<Self> {
        let before = faults.len();
        if dialect == Dialect::OAuth2 && spec.refused.is_some() {
            faults.push(
                BackendFault::new("refresh.refused", "OAuth 2 refuses by `error = invalid_grant`")
                    .hint("`dialect = \"json\"` refuses by status"),
            );
        }
        let spec = spec.or(dialect.defaults(client, auth));
        let method = method(spec.method.as_deref(), faults);
        let body = body(&spec, client, faults);
        let headers = headers(&spec, client, auth, faults);
        let answer = answer(dialect, spec, faults);
        let exchange = Self { method: method?, headers, body: body?, answer: answer? };
        if matches!((exchange.method, &exchange.body), ("GET", Body::Json(_) | Body::Form(_))) {
            faults.push(
                BackendFault::new("refresh.body", "a GET carries none")
                    .hint("`body = {}`, and the token in `headers`"),
            );
        }
        (faults.len() == before).then_some(exchange)
    }

    /// The request that redeems `held`.
    pub(crate) fn request(&self, url: &str, held: &Held) -> TokenRequest {
        let mut headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.fill(held))).collect();
        let mut default = |name: &str, value: &str| {
            if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                headers.push((name.to_owned(), value.to_owned()));
            }
        };
        default("Accept", "application/json");
        let body = match &self.body {
            Body::Empty => Vec::new(),
            Body::Json(template) => {
                default("Content-Type", "application/json");
                template.fill(held).to_string().into_bytes()
            }
            Body::Form(fields) => {
                default("Content-Type", "application/x-www-form-urlencoded");
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(fields.iter().map(|(name, value)| (name, value.fill(held))));
                form.finish().into_bytes()
            }
        };
        TokenRequest { method: self.method.to_owned(), url: url.to_owned(), headers, body }
    }
}

impl Dialect {
    fn defaults(self, client: &Client<'_>, auth: ClientAuth) -> RefreshSpec {
        let path = |text: &str| Some(text.to_owned());
        let (body, spec) = match self {
            Self::Json => (
                json!({ "token": "{refresh_token}" }),
                RefreshSpec {
                    access_token: path("accessToken"),
                    expires_at: path("accessTokenExpiry"),
                    refresh_token: path("refreshToken"),
                    refused: Some(vec![400, 401, 403]),
                    ..RefreshSpec::default()
                },
            ),
            Self::OAuth2 => {
                let mut body =
                    json!({ "grant_type": "refresh_token", "refresh_token": "{refresh_token}" });
                if auth == ClientAuth::Post && client.id.is_some() {
                    body["client_id"] = "{client_id}".into();
                }
                if auth == ClientAuth::Post && client.secret.is_some() {
                    body["client_secret"] = "{client_secret}".into();
                }
                let spec = RefreshSpec {
                    encoding: Some(Encoding::Form),
                    access_token: path("access_token"),
                    expires_in: path("expires_in"),
                    refresh_token: path("refresh_token"),
                    refresh_expires_in: path("refresh_expires_in"),
                    id_token: path("id_token"),
                    ..RefreshSpec::default()
                };
                (body, spec)
            }
            // Its answers name no lifetime: the JWTs tell their own.
            Self::SimpleJwt => (
                json!({ "refresh": "{refresh_token}" }),
                RefreshSpec {
                    access_token: path("access"),
                    refresh_token: path("refresh"),
                    refused: Some(vec![401]),
                    ..RefreshSpec::default()
                },
            ),
        };
        RefreshSpec { body: body.as_object().cloned(), ..spec }
    }
}

impl RefreshSpec {
    /// The keys that are given, and `default` for those that are not.
    fn or(self, default: Self) -> Self {
        let given = self.expires_at.is_some() || self.expires_in.is_some();
        let [expires_at, expires_in] =
            if given { [None, None] } else { [default.expires_at, default.expires_in] };
        let given = self.refresh_expires_at.is_some() || self.refresh_expires_in.is_some();
        let [refresh_expires_at, refresh_expires_in] = if given {
            [None, None]
        } else {
            [default.refresh_expires_at, default.refresh_expires_in]
        };
        Self {
            method: self.method.or(default.method),
            encoding: self.encoding.or(default.encoding),
            body: self.body.or(default.body),
            headers: self.headers,
            access_token: self.access_token.or(default.access_token),
            expires_at: self.expires_at.or(expires_at),
            expires_in: self.expires_in.or(expires_in),
            refresh_token: self.refresh_token.or(default.refresh_token),
            refresh_expires_at: self.refresh_expires_at.or(refresh_expires_at),
            refresh_expires_in: self.refresh_expires_in.or(refresh_expires_in),
            id_token: self.id_token.or(default.id_token),
            refused: self.refused.or(default.refused),
        }
    }
}

fn method(text: Option<&str>, faults: &mut Vec<BackendFault>) -> Option<&'static str> {
    let text = text.unwrap_or("POST");
    let method = ["GET", "POST", "PUT", "PATCH"].into_iter().find(|method| *method == text);
    if method.is_none() {
        let message = format!("`{text}` is no method to ask for a token with");
        let fault = BackendFault::new("refresh.method", message);
        faults.push(fault.hint("GET, POST, PUT or PATCH, in capitals"));
    }
    method
}

fn body(spec: &RefreshSpec, client: &Client<'_>, faults: &mut Vec<BackendFault>) -> Option<Body> {
    let members = spec.body.as_ref().filter(|members| !members.is_empty());
    let Some(members) = members else { return Some(Body::Empty) };
    let fault = |name: &str, fault| template_fault(&format!("refresh.body.{name}"), fault);
    let before = faults.len();
    let body = match spec.encoding.unwrap_or(Encoding::Json) {
        Encoding::Json => {
            let members = members.iter().filter_map(|(name, member)| {
                let member = JsonTemplate::parse(member, client);
                let member = member.map_err(|why| faults.push(fault(name, why))).ok()?;
                Some((name.clone(), member))
            });
            Body::Json(JsonTemplate::Object(members.collect()))
        }
        Encoding::Form => {
            let fields = members.iter().filter_map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    Value::Null | Value::Array(_) | Value::Object(_) => {
                        let key = format!("refresh.body.{name}");
                        let message = "a form holds strings, numbers and booleans only";
                        faults.push(BackendFault::new(&key, message).hint("`encoding = \"json\"`"));
                        return None;
                    }
                };
                let value = Template::parse(&text, client);
                let value = value.map_err(|why| faults.push(fault(name, why))).ok()?;
                Some((name.clone(), value))
            });
            Body::Form(fields.collect())
        }
    };
    (faults.len() == before).then_some(body)
}

fn headers(
    spec: &RefreshSpec,
    client: &Client<'_>,
    auth: ClientAuth,
    faults: &mut Vec<BackendFault>,
) -> Vec<(String, Template)> {
    let mut headers = Vec::new();
    for (name, value) in &spec.headers {
        let key = format!("refresh.headers.{name}");
        let lower = name.to_ascii_lowercase();
        if !is_header_name(name) {
            faults.push(BackendFault::new(&key, "is no header name"));
        } else if CARRIERS_OWN.contains(&lower.as_str()) {
            faults.push(BackendFault::new(&key, "is not ours to set"));
        } else if lower == "authorization" && auth == ClientAuth::Basic {
            let message = "stands against `client_auth = \"basic\"`, which sets it";
            faults.push(BackendFault::new(&key, message));
        } else if !is_header_value(value.expose()) {
            faults.push(BackendFault::new(&key, "has characters outside visible ASCII"));
        } else {
            match Template::parse(value.expose(), client) {
                Ok(value) => headers.push((name.clone(), value)),
                Err(why) => faults.push(template_fault(&key, why)),
            }
        }
    }
    if let (ClientAuth::Basic, Some(id), Some(secret)) = (auth, client.id, client.secret) {
        headers.push(("Authorization".to_owned(), basic(id, secret)));
    }
    headers
}

/// Both parts are form-encoded first, so that a colon in an identifier stays one (RFC 6749 §2.3.1).
fn basic(id: &str, secret: &Secret) -> Template {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(id), encode(secret.expose()));
    Template::fixed(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

fn answer(
    dialect: Dialect,
    spec: RefreshSpec,
    faults: &mut Vec<BackendFault>,
) -> Option<AnswerRules> {
    let refused = spec.refused.unwrap_or_default();
    for status in refused.iter().filter(|status| !may_refuse(**status)) {
        let message = format!("a {status} never speaks of the refresh token");
        let fault = BackendFault::new("refresh.refused", message);
        faults.push(fault.hint("4xx, but for 408, 425 and 429"));
    }
    let mut path = |key: &str, text: Option<String>| {
        let text = text?;
        let path = Path::parse(&text);
        if path.is_none() {
            let message = format!("`{text}` has an empty step");
            faults.push(BackendFault::new(&format!("refresh.{key}"), message));
        }
        path
    };
    let access_token = path("access_token", spec.access_token);
    let refresh_token = path("refresh_token", spec.refresh_token);
    let expires_at = path("expires_at", spec.expires_at);
    let expires_in = path("expires_in", spec.expires_in);
    let refresh_expires_at = path("refresh_expires_at", spec.refresh_expires_at);
    let refresh_expires_in = path("refresh_expires_in", spec.refresh_expires_in);
    let id_token = path("id_token", spec.id_token);
    Some(AnswerRules {
        access_token: access_token?,
        expires_at,
        expires_in,
        refresh_token: refresh_token?,
        refresh_expires_at,
        refresh_expires_in,
        id_token,
        refusal: match dialect {
            Dialect::Json | Dialect::SimpleJwt => RefusalRule::Status(refused),
            Dialect::OAuth2 => RefusalRule::InvalidGrant,
        },
    })
}

fn template_fault(key: &str, fault: TemplateFault) -> BackendFault {
    let hint = match fault {
        TemplateFault::Unknown(_) => {
            "{refresh_token}, {access_token}, {client_id} or {client_secret}"
        }
        TemplateFault::NotSet(_) => "it belongs beside `dialect`",
    };
    BackendFault::new(key, fault.to_string()).hint(hint)
}

/// A `token` of RFC 9110 §5.6.2.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && value.trim() == value
}

/// What the carrier of a request says by itself.
const CARRIERS_OWN: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn client<'a>(id: &'a str, secret: &'a Secret) -> Client<'a> {
        Client { id: Some(id), secret: Some(secret) }
    }

    fn compile(
        dialect: Dialect,
        client: &Client<'_>,
        auth: ClientAuth,
        spec: RefreshSpec,
    ) -> Result<Exchange, Vec<BackendFault>> {
        let mut faults = Vec::new();
        let exchange = Exchange::compile(dialect, client, auth, spec, &mut faults);
        exchange.ok_or(faults)
    }

    /// Method, headers and body, one per line.
    fn request(
        dialect: Dialect,
        client: &Client<'_>,
        auth: ClientAuth,
        spec: RefreshSpec,
    ) -> String {
        let held = Held {
            access_token: Some(Secret::new("A/1")),
            refresh_token: Secret::new("R+\"&=1"),
            refresh_expires_at: None,
        };
        let request =
            compile(dialect, client, auth, spec).ok().unwrap().request("http://b/", &held);
        let mut lines = vec![request.method];
        lines.extend(request.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.push(String::from_utf8(request.body).unwrap());
        lines.join("\n")
    }

    fn body(text: &str) -> Option<Map<String, Value>> {
        Some(serde_json::from_str(text).unwrap())
    }

    const NOBODY: Client<'_> = Client { id: None, secret: None };
    const JSON: &str = "Accept: application/json\nContent-Type: application/json";
    const FORM: &str = "Accept: application/json\nContent-Type: application/x-www-form-urlencoded";

    #[test]
    fn each_dialect_asks_in_its_own_way() {
        let check = |dialect, auth, client: &Client<'_>, expected: &str| {
            assert_eq!(request(dialect, client, auth, RefreshSpec::default()), expected);
        };
        let secret = Secret::new("p:w d%");
        let gate = client("ga:te", &secret);
        let public = Client { id: Some("ga:te"), secret: None };
        let (post, basic) = (ClientAuth::Post, ClientAuth::Basic);
        check(Dialect::Json, post, &gate, &format!("POST\n{JSON}\n{{\"token\":\"R+\\\"&=1\"}}"));
        let simple_jwt = format!("POST\n{JSON}\n{{\"refresh\":\"R+\\\"&=1\"}}");
        check(Dialect::SimpleJwt, post, &NOBODY, &simple_jwt);

        let grant = "grant_type=refresh_token&refresh_token=R%2B%22%26%3D1";
        check(Dialect::OAuth2, post, &NOBODY, &format!("POST\n{FORM}\n{grant}"));
        let with_id = format!("POST\n{FORM}\nclient_id=ga%3Ate&{grant}");
        check(Dialect::OAuth2, post, &public, &with_id);
        let with_secret =
            format!("POST\n{FORM}\nclient_id=ga%3Ate&client_secret=p%3Aw+d%25&{grant}");
        check(Dialect::OAuth2, post, &gate, &with_secret);
        // base64 of `ga%3Ate:p%3Aw+d%25`
        let by_header = format!("Authorization: Basic Z2ElM0F0ZTpwJTNBdytkJTI1\n{FORM}");
        check(Dialect::OAuth2, basic, &gate, &format!("POST\n{by_header}\n{grant}"));
    }

    #[test]
    fn what_the_file_says_goes_before_the_dialect() {
        let check = |dialect, spec, expected: &str| {
            assert_eq!(request(dialect, &NOBODY, ClientAuth::Post, spec), expected);
        };
        let spec = RefreshSpec {
            method: Some("PUT".to_owned()),
            body: body(r#"{"data":{"r":"{refresh_token}","a":["{access_token}"]},"n":1}"#),
            headers: [("X-Key".to_owned(), Secret::new("k {access_token}"))].into(),
            ..RefreshSpec::default()
        };
        let expected = r#"{"data":{"a":["A/1"],"r":"R+\"&=1"},"n":1}"#;
        check(Dialect::Json, spec, &format!("PUT\nX-Key: k A/1\n{JSON}\n{expected}"));

        let spec = RefreshSpec {
            encoding: Some(Encoding::Form),
            body: body(r#"{"r":"{refresh_token}","n":1,"b":true}"#),
            ..RefreshSpec::default()
        };
        check(Dialect::Json, spec, &format!("POST\n{FORM}\nb=true&n=1&r=R%2B%22%26%3D1"));

        let spec = RefreshSpec {
            method: Some("GET".to_owned()),
            body: body("{}"),
            headers: [("authorization".to_owned(), Secret::new("Bearer {refresh_token}"))].into(),
            ..RefreshSpec::default()
        };
        let headers = "authorization: Bearer R+\"&=1\nAccept: application/json";
        check(Dialect::SimpleJwt, spec, &format!("GET\n{headers}\n"));

        let spec = RefreshSpec {
            encoding: Some(Encoding::Json),
            headers: [("content-type".to_owned(), Secret::new("application/vnd.api+json"))].into(),
            ..RefreshSpec::default()
        };
        let headers = "content-type: application/vnd.api+json\nAccept: application/json";
        let expected = r#"{"grant_type":"refresh_token","refresh_token":"R+\"&=1"}"#;
        check(Dialect::OAuth2, spec, &format!("POST\n{headers}\n{expected}"));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let header = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
        let spec = RefreshSpec {
            method: Some("post".to_owned()),
            body: body(r#"{"a":"{token}","b":{"c":"{client_id}"}}"#),
            headers: [
                header("", "x"),
                header("A", "caf\u{e9}"),
                header("Authorization", "x"),
                header("B", "{what}"),
                header("C", " x"),
                header("Host", "x"),
            ]
            .into(),
            expires_at: Some(String::new()),
            id_token: Some("a..b".to_owned()),
            refused: Some(vec![400, 429, 500, 200, 408]),
            ..RefreshSpec::default()
        };
        let faults = compile(Dialect::Json, &NOBODY, ClientAuth::Basic, spec).err().unwrap();
        let said: Vec<String> =
            faults.iter().map(|fault| format!("{} {}", fault.key, fault.message)).collect();
        let expected = [
            "refresh.method `post` is no method to ask for a token with",
            "refresh.body.a `{token}` stands for nothing",
            "refresh.body.b `{client_id}`, but there is no client_id",
            "refresh.headers. is no header name",
            "refresh.headers.A has characters outside visible ASCII",
            "refresh.headers.Authorization stands against `client_auth = \"basic\"`, which sets it",
            "refresh.headers.B `{what}` stands for nothing",
            "refresh.headers.C has characters outside visible ASCII",
            "refresh.headers.Host is not ours to set",
            "refresh.refused a 429 never speaks of the refresh token",
            "refresh.refused a 500 never speaks of the refresh token",
            "refresh.refused a 200 never speaks of the refresh token",
            "refresh.refused a 408 never speaks of the refresh token",
            "refresh.expires_at `` has an empty step",
            "refresh.id_token `a..b` has an empty step",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_does_not_go_together_is_a_fault() {
        let check = |dialect, spec, expected: &str| {
            let faults = compile(dialect, &NOBODY, ClientAuth::Post, spec).err().unwrap();
            let said: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
            assert_eq!(said, [expected]);
        };
        let get = Some("GET".to_owned());
        let by_status = RefreshSpec { refused: Some(vec![400]), ..RefreshSpec::default() };
        check(Dialect::OAuth2, by_status, "refresh.refused");
        check(Dialect::Json, RefreshSpec { method: get, ..RefreshSpec::default() }, "refresh.body");
        let nested = RefreshSpec {
            encoding: Some(Encoding::Form),
            body: body(r#"{"a":{"b":"{refresh_token}"}}"#),
            ..RefreshSpec::default()
        };
        check(Dialect::Json, nested, "refresh.body.a");
    }
}
