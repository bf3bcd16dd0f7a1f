//! What an operator writes into `[backend.refresh]`, with `{refresh_token}` where the token goes.

use foregate_session::Secret;
use serde_json::Value;

use crate::tokens::Held;

/// Text with places for tokens. Braces around anything but a name are text.
#[derive(Debug, PartialEq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, PartialEq)]
enum Piece {
    /// Also what is the same for every session, a client secret included.
    Fixed(Secret),
    RefreshToken,
    AccessToken,
}

/// What stands in for `{client_id}` and `{client_secret}`.
pub(crate) struct Client<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) secret: Option<&'a Secret>,
}

/// Why a text is no template.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum TemplateFault {
    #[error("`{{{0}}}` stands for nothing")]
    Unknown(String),
    #[error("`{{{0}}}`, but there is no {0}")]
    NotSet(&'static str),
}

impl Template {
    pub(crate) fn parse(text: &str, client: &Client<'_>) -> Result<Self, TemplateFault> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_name(rest) {
            pieces.push(Piece::Fixed(Secret::new(before)));
            pieces.push(match name {
                "refresh_token" => Piece::RefreshToken,
                "access_token" => Piece::AccessToken,
                "client_id" => {
                    let id = client.id.ok_or(TemplateFault::NotSet("client_id"))?;
                    Piece::Fixed(Secret::new(id))
                }
                "client_secret" => {
                    let secret = client.secret.ok_or(TemplateFault::NotSet("client_secret"))?;
                    Piece::Fixed(secret.clone())
                }
                _ => return Err(TemplateFault::Unknown(name.to_owned())),
            });
            rest = after;
        }
        pieces.push(Piece::Fixed(Secret::new(rest)));
        Ok(Self(pieces))
    }

    pub(crate) fn fixed(text: &str) -> Self {
        Self(vec![Piece::Fixed(Secret::new(text))])
    }

    /// In one pass: what a token contains is never taken for a place.
    pub(crate) fn fill(&self, held: &Held) -> String {
        let text = self.0.iter().map(|piece| match piece {
            Piece::Fixed(text) => text.expose(),
            Piece::RefreshToken => held.refresh_token.expose(),
            Piece::AccessToken => held.access_token.as_ref().map_or("", Secret::expose),
        });
        text.collect()
    }
}

/// What stands before the first `{name}`, the name, and what stands behind it.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let braces = text.match_indices('{');
    braces.into_iter().find_map(|(at, _)| {
        let (name, after) = text[at + 1..].split_once('}')?;
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_name.then_some((&text[..at], name, after))
    })
}

/// A JSON value whose strings are templates.
pub(crate) enum JsonTemplate {
    Fixed(Value),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl JsonTemplate {
    pub(crate) fn parse(value: &Value, client: &Client<'_>) -> Result<Self, TemplateFault> {
        Ok(match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Fixed(value.clone()),
            Value::String(text) => Self::Text(Template::parse(text, client)?),
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::parse(item, client));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, member)| Ok((name.clone(), Self::parse(member, client)?)));
                Self::Object(members.collect::<Result<_, _>>()?)
            }
        })
    }

    pub(crate) fn fill(&self, held: &Held) -> Value {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) => Value::String(template.fill(held)),
            Self::List(items) => items.iter().map(|item| item.fill(held)).collect(),
            Self::Object(members) => {
                members.iter().map(|(name, member)| (name.clone(), member.fill(held))).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held {
            access_token: Some(Secret::new("AT")),
            refresh_token: Secret::new("{access_token}\"RT"),
            refresh_expires_at: None,
        }
    }

    #[test]
    fn names_are_filled_in_one_pass_and_other_braces_stay() {
        let secret = Secret::new("s3cret");
        let client = Client { id: Some("gate"), secret: Some(&secret) };
        let check = |text: &str, expected: &str| {
            let template = Template::parse(text, &client).unwrap();
            assert_eq!(template.fill(&held()), expected, "{text}");
        };
        check("", "");
        check("plain", "plain");
        check("{refresh_token}", "{access_token}\"RT");
        check("Bearer {access_token}!", "Bearer AT!");
        check("{client_id}:{client_secret}", "gate:s3cret");
        check("{{client_id}}", "{gate}");
        check("{} { } {\"a\":1} {A} {client_id", "{} { } {\"a\":1} {A} {client_id");
        check("{x y}{access_token}", "{x y}AT");
        check("{é}{access_token}é", "{é}ATé");
    }

    #[test]
    fn a_name_without_a_meaning_is_a_fault() {
        let check = |text: &str, expected: &str| {
            let client = Client { id: None, secret: None };
            assert_eq!(Template::parse(text, &client).unwrap_err().to_string(), expected);
        };
        check("{refreshtoken}", "`{refreshtoken}` stands for nothing");
        check("{client_id}", "`{client_id}`, but there is no client_id");
        check("{client_secret}", "`{client_secret}`, but there is no client_secret");
    }

    #[test]
    fn json_is_filled_at_any_depth() {
        let template = serde_json::json!({
            "data": { "token": "{refresh_token}", "list": ["{access_token}", 1, true, null] },
        });
        let client = Client { id: None, secret: None };
        let filled = JsonTemplate::parse(&template, &client).unwrap().fill(&held());
        let expected = serde_json::json!({
            "data": { "token": "{access_token}\"RT", "list": ["AT", 1, true, null] },
        });
        assert_eq!(filled, expected);
    }
}
