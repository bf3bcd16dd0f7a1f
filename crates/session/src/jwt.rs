//! What a token says about itself, where it is a JWT (RFC 7519 §3). Nothing is verified: the token
//! comes from a session that we sealed or from the backend, and whoever it is sent to checks it.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::claims::Claims;
use crate::time::{Stamp, UnixSeconds};

/// A JWT, as far as renewing tokens looks into it.
pub struct Jwt(Claims);

impl Jwt {
    /// `None`: not a JWT, as many access tokens are not.
    pub fn read(token: &str) -> Option<Self> {
        payload(token).map(Self)
    }

    /// `sub`, which home-made backends write as a number, too.
    pub fn subject(&self) -> Option<Cow<'_, str>> {
        let sub = self.0.claim("sub")?;
        sub.as_str().or_else(|| sub.as_f64().map(|_| Cow::Borrowed(sub.text())))
    }

    /// `exp`; an end before 1970 or at its first second is none.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        time(&self.0, "exp").filter(|end| *end > UnixSeconds(0))
    }
}

/// The payload of `token`, whatever its `alg`. `None` if it is no JWT.
pub(crate) fn payload(token: &str) -> Option<Claims> {
    let mut segments = token.split('.');
    let (_, payload, _) = (segments.next()?, segments.next()?, segments.next()?);
    if segments.next().is_some() {
        return None;
    }
    let text = String::from_utf8(LENIENT.decode(payload).ok()?).ok()?;
    Claims::parse(text).ok()
}

/// The time that the claim `name` of a JWT tells: `exp` or `iat`.
pub(crate) fn time(claims: &Claims, name: &str) -> Option<UnixSeconds> {
    Some(Stamp::read(claims.claim(name)?.as_count()?)?.at)
}

/// Home-made backends pad, or leave odd bits behind.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_whatever_signs_it() {
        let check = |token: &str, wanted: Option<&str>| {
            assert_eq!(payload(token).as_ref().map(Claims::text), wanted, "{token}");
        };
        check("e30.eyJzdWIiOiJhIn0.c2ln", Some(r#"{"sub":"a"}"#));
        check("e30.eyJzdWIiOiJhIn0=.c2ln", Some(r#"{"sub":"a"}"#));
        check("not-json.eyJzdWIiOiJhIn0.", Some(r#"{"sub":"a"}"#));
        check("h.p.s", None);
        check("opaque", None);
        check("e30.e30", None);
        check("e30.e30.e30.e30", None);
        check("e30.W10.e30", None);
        check("e30._w.e30", None);
    }

    #[test]
    fn a_jwt_tells_its_subject_and_its_end() {
        let check = |claims: &str, wanted: (Option<&str>, Option<i64>)| {
            let token = format!("e30.{}.c2ln", LENIENT.encode(claims));
            let jwt = Jwt::read(&token).unwrap();
            let end = jwt.expires_at().map(|end| end.0);
            assert_eq!((jwt.subject().as_deref(), end), wanted, "{claims}");
        };
        check(r#"{"sub":"ann","exp":1900000000}"#, (Some("ann"), Some(1_900_000_000)));
        check(r#"{"sub":"müller","exp":0}"#, (Some("müller"), None));
        check(r#"{"sub":7,"exp":"soon"}"#, (Some("7"), None));
        check(r#"{"sub":null}"#, (None, None));
        check("{}", (None, None));
    }

    #[test]
    fn times_are_read_in_either_unit() {
        let claims = Claims::parse(r#"{"exp":1767225600.7,"iat":1767225600000,"nbf":null}"#.into());
        let told =
            ["exp", "iat", "nbf", "auth_time"].map(|name| time(claims.as_ref().unwrap(), name));
        let at = Some(UnixSeconds(1_767_225_600));
        assert_eq!(told, [at, at, None, None]);
    }
}
