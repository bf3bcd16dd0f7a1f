//! The page that a person sees who gets an answer of ours: what happened, what can be done now, and
//! in small print what to tell whoever runs the site. It holds no script, asks for nothing from
//! anywhere, and nothing on it moves.

use std::borrow::Cow;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use crate::request_id::RequestId;

/// What an answer says to people.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    /// What happened, in a few words.
    pub(crate) title: &'static str,
    /// What happened, as a sentence. Programs get it, too.
    pub(crate) what: Cow<'static, str>,
    /// What the visitor can do now.
    pub(crate) now: &'static str,
}

impl Words {
    pub(crate) fn new(
        title: &'static str,
        what: impl Into<Cow<'static, str>>,
        now: &'static str,
    ) -> Self {
        Self { title, what: what.into(), now }
    }
}

/// What the page offers to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    None,
    /// To ask for the same page again.
    Retry,
    /// To sign out, so as to sign in as somebody else, and to come back to this path and query.
    SignOut {
        back: String,
    },
}

/// One page, before it is written down.
pub(crate) struct Page<'p> {
    pub(crate) words: &'p Words,
    pub(crate) action: &'p Action,
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) request_id: &'p RequestId,
}

impl Page<'_> {
    pub(crate) fn html(&self) -> String {
        format!(
            include_str!("page.html"),
            title = escaped(self.words.title),
            style = STYLE,
            what = escaped(&self.words.what),
            now = escaped(self.words.now),
            action = self.action.html(),
            status = self.status.as_u16(),
            reason = escaped(self.reason),
            request_id = escaped(&self.request_id.to_string()),
        )
    }
}

impl Action {
    fn html(&self) -> String {
        match self {
            Self::None => String::new(),
            // An empty reference leads to the very address of this page (RFC 3986 §4.4).
            Self::Retry => "<p><a href=\"\">Try again</a></p>\n".to_owned(),
            Self::SignOut { back } => {
                let back = escaped(back);
                format!(
                    "<form method=\"post\" action=\"/.foregate/sign-out\">\n\
                     <input type=\"hidden\" name=\"callbackUrl\" value=\"{back}\">\n\
                     <button>Sign out and use another account</button>\n</form>\n"
                )
            }
        }
    }

    /// What a browser may do with the page (CSP Level 3; Referrer Policy).
    ///
    /// A sign-out leads on to the login, and from there to wherever people sign in; browsers hold
    /// `form-action` against each of these redirects. And a form of a page without a referrer says
    /// `Origin: null`, which the cross-site check refuses where `Sec-Fetch-Site` is absent.
    pub(crate) fn restrict(&self, headers: &mut HeaderMap) {
        let (policy, referrer) = match self {
            Self::None | Self::Retry => (POLICY, "no-referrer"),
            Self::SignOut { .. } => (POLICY_WITH_FORM, "same-origin"),
        };
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static(referrer));
    }
}

const STYLE: &str = include_str!("page.css");

/// Nothing but the page's own style, which is known by its hash, and an icon of no bytes, without
/// which browsers ask the app for one.
macro_rules! policy {
    ($form_action:literal) => {
        concat!(
            "default-src 'none'; style-src 'sha256-",
            "GK8D2zJD1A3gfzEtHf+gxRk43EMAJpA6LQdVgZs5rak=",
            "'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action ",
            $form_action
        )
    };
}

const POLICY: &str = policy!("'none'");
const POLICY_WITH_FORM: &str = policy!("http: https:");

/// As text or an attribute of HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
    use sha2::{Digest, Sha256};

    use super::*;

    const ACTIONS: [Action; 2] = [Action::None, Action::Retry];

    fn sign_out(back: &str) -> Action {
        Action::SignOut { back: back.to_owned() }
    }

    fn page(action: &Action) -> String {
        let request_id = RequestId::of(&HeaderMap::new(), false);
        let words = Words { title: "A <title>", what: "\"What\" & <why>".into(), now: "It's so." };
        let status = StatusCode::FORBIDDEN;
        let page =
            Page { words: &words, action, status, reason: "role_missing", request_id: &request_id };
        page.html()
    }

    fn policy(action: &Action) -> String {
        let mut headers = HeaderMap::new();
        action.restrict(&mut headers);
        headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_policy_admits_the_style_of_the_page_and_no_other() {
        for action in ACTIONS.into_iter().chain([sign_out("/")]) {
            let page = page(&action);
            let (_, rest) = page.split_once("<style>").unwrap();
            let (style, rest) = rest.split_once("</style>").unwrap();
            let hash = BASE64.encode(Sha256::digest(style));
            let policy = policy(&action);
            assert!(policy.contains(&format!("style-src 'sha256-{hash}'")), "{hash}: {policy}");
            assert!(!rest.contains("style"), "no other style: {rest}");
        }
    }

    #[test]
    fn only_a_page_with_a_form_may_send_one() {
        for action in ACTIONS {
            assert!(policy(&action).ends_with("form-action 'none'"));
            assert!(!page(&action).contains("<form"));
        }
        assert!(!policy(&sign_out("/")).contains("form-action 'none'"));
        assert!(
            page(&sign_out("/")).contains("<form method=\"post\" action=\"/.foregate/sign-out\">")
        );
    }

    #[test]
    fn nothing_that_came_from_outside_is_markup() {
        let page = page(&sign_out("/a?b=\"><script>'&amp;"));
        assert!(page.contains("value=\"/a?b=&quot;&gt;&lt;script&gt;&#39;&amp;amp;\""), "{page}");
        assert!(page.contains("<h1>A &lt;title&gt;</h1>"), "{page}");
        assert!(page.contains("&quot;What&quot; &amp; &lt;why&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn a_page_holds_no_address_of_another_host() {
        for action in ACTIONS.into_iter().chain([sign_out("/")]) {
            let page = page(&action);
            assert!(!page.contains("//") && !page.contains("url("), "{page}");
        }
    }
}
