//! The demo's apps: they hold no auth code and show what the gate sent them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::backend::{Backend, Desk};
use crate::html::{escape, page, table};
use crate::served::{Answer, Call, Served, html, json as json_answer};
use crate::token;

/// What an app calls itself, what it has to show, and whom it links to.
pub(crate) struct DemoAppSettings {
    pub(crate) title: String,
    pub(crate) pages: &'static [Page],
    /// Label and URL of the other app.
    pub(crate) neighbour: (String, String),
}

/// A page of an app. Who may see it is for the gate to say: the app only repeats it.
pub(crate) struct Page {
    pub(crate) path: &'static str,
    pub(crate) label: &'static str,
    pub(crate) heading: &'static str,
    /// Whether the gate lets strangers in, who then wait for no refresh.
    pub(crate) open: bool,
}

/// A running app. It ends when this is dropped.
pub(crate) struct DemoApp(#[expect(dead_code, reason = "held for its drop")] Served);

impl DemoApp {
    /// Starts one at `address`; it shows the counters of `backend`.
    pub(crate) async fn start(
        address: SocketAddr,
        settings: DemoAppSettings,
        backend: &Backend,
    ) -> io::Result<Self> {
        let app = Arc::new(App { settings, desk: backend.desk() });
        let served = Served::start(address, move |call| {
            let app = Arc::clone(&app);
            async move { app.answer(&call) }
        });
        Ok(Self(served.await?))
    }
}

struct App {
    settings: DemoAppSettings,
    desk: Arc<Desk>,
}

impl App {
    /// A page, or JSON for whoever prefers it and at `/api/headers`.
    fn answer(&self, call: &Call) -> Answer {
        let path = call.uri.path();
        if path == "/api/headers" || call.header("accept").starts_with("application/json") {
            return Some(json_answer(StatusCode::OK, &self.echo(call)));
        }
        let covers = |page: &&Page| {
            let rest = path.strip_prefix(page.path);
            rest.is_some_and(|rest| rest.is_empty() || page.path != "/" && rest.starts_with('/'))
        };
        Some(match self.settings.pages.iter().find(covers) {
            Some(page) => html(StatusCode::OK, self.show(call, page)),
            None => html(StatusCode::NOT_FOUND, self.show(call, &NOWHERE)),
        })
    }

    /// The request as JSON, and the claims of its token.
    fn echo(&self, call: &Call) -> Value {
        let headers: Vec<_> = headers(call).collect();
        json!({
            "method": call.method.as_str(), "target": call.uri.to_string(), "headers": headers,
            "claims": bearer(call).and_then(token::claims), "backend": self.desk.counters(),
        })
    }

    fn show(&self, call: &Call, shown: &Page) -> String {
        let claims = bearer(call).and_then(token::claims);
        let body = format!(
            "{}<main><section><h1>{}</h1>{}</section>{}<section><h2>The request that reached this \
             app</h2>{}</section></main>",
            self.banner(shown, claims.as_ref()),
            shown.heading,
            self.visitor(claims.as_ref()),
            claims.as_ref().map(|claims| self.token(claims, shown.open)).unwrap_or_default(),
            table(headers(call)),
        );
        page(&self.settings.title, body)
    }

    fn banner(&self, shown: &Page, claims: Option<&Value>) -> String {
        let (neighbour, url) = &self.settings.neighbour;
        let links = self.settings.pages.iter().map(|page| {
            let current = if page.path == shown.path { " aria-current=\"page\"" } else { "" };
            format!("<a href=\"{}\"{current}>{}</a>", page.path, page.label)
        });
        let sign_out = claims.map_or("", |_| {
            "<form method=\"post\" action=\"/.foregate/sign-out\">\
             <input type=\"hidden\" name=\"callbackUrl\" value=\"/\"><button>Sign out</button></form>"
        });
        format!(
            "<header><div><b>{}</b>{}<a href=\"{}\">{} ↗</a>{sign_out}</div></header>",
            escape(&self.settings.title),
            links.collect::<String>(),
            escape(url),
            escape(neighbour),
        )
    }

    fn visitor(&self, claims: Option<&Value>) -> String {
        let Some(claims) = claims else {
            let guarded = self.settings.pages.iter().find(|page| !page.open);
            let path = guarded.map_or("/", |page| page.path);
            return format!(
                "<p>This app does not know who you are: the request came without a token. \
                 <a href=\"{path}\">Sign in</a></p>"
            );
        };
        let text = |name: &str| escape(claims[name].as_str().unwrap_or("somebody"));
        let roles = claims["realm_access"]["roles"].as_array().into_iter().flatten();
        let roles: Vec<_> = roles.filter_map(Value::as_str).map(escape).collect();
        format!(
            "<p>Signed in as <b>{}</b> <span class=\"soft\">{} · {}</span></p>",
            text("name"),
            text("email"),
            roles.join(", ")
        )
    }

    fn token(&self, claims: &Value, open: bool) -> String {
        let counters = self.desk.counters();
        let [issued, ends] = ["iat", "exp"].map(|name| claims[name].as_u64().unwrap_or_default());
        let rows = claims.as_object().into_iter().flatten().map(|(name, value)| {
            (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        format!(
            "<section><h2>The access token in <code>Authorization: Bearer</code></h2>\
             <p id=\"countdown\" data-id=\"{id}\" data-ends=\"{ends}\" \
             data-open=\"{open}\">It ends at {ends}.</p>\
             <meter id=\"left\" min=\"0\" max=\"{life}\" value=\"{life}\"></meter>{rows}</section>\
             <section><h2>Twenty requests at once</h2><p>Wait until the token has ended, then send \
             twenty: the backend redeems the refresh token once. So far: <b id=\"redemptions\">{redemptions}\
             </b> redemptions, <b id=\"reuses\">{reuses}</b> of a token already spent.</p>\
             <p><button id=\"burst\">Send twenty</button> <span id=\"burst-result\" class=\"soft\">\
             </span></p></section><script>{SCRIPT}</script>",
            id = escape(claims["jti"].as_str().unwrap_or_default()),
            life = ends.saturating_sub(issued),
            rows = table(rows),
            redemptions = counters.redemptions,
            reuses = counters.reuses,
        )
    }
}

fn bearer(call: &Call) -> Option<&str> {
    call.header("authorization").strip_prefix("Bearer ")
}

fn headers(call: &Call) -> impl Iterator<Item = (&str, std::borrow::Cow<'_, str>)> {
    call.headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
}

const NOWHERE: Page = Page { path: "", label: "", heading: "There is no such page", open: true };

const SCRIPT: &str = include_str!("app.js");
