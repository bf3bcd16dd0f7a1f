//! A visitor's browser: it keeps cookies and says, as browsers do, what kind of request it makes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::jar::Jar;
use crate::{Answer, Connection};

/// A browser for which every host name leads to one gate. Clones share the cookies. Each request
/// has a connection of its own; none follows redirects but [`Browser::follow`].
#[derive(Clone)]
pub struct Browser {
    gate: SocketAddr,
    jar: Arc<Mutex<Jar>>,
}

impl Browser {
    pub fn new(gate: SocketAddr) -> Self {
        Self { gate, jar: Arc::default() }
    }

    /// Opens `url` as from the address bar.
    pub async fn navigate(&self, url: &str) -> Answer {
        self.send(&Request::get(url).navigation()).await
    }

    /// Asks for `url` as a page's script of the same origin does.
    pub async fn fetch(&self, url: &str) -> Answer {
        self.send(&Request::get(url).fetch("same-origin")).await
    }

    /// Opens `url` and goes where redirects lead, at most ten times: the URL that answered at last,
    /// and its answer.
    pub async fn follow(&self, url: &str) -> (String, Answer) {
        let mut url = url.to_owned();
        for _ in 0..10 {
            let answer = self.navigate(&url).await;
            match answer.header("location") {
                Some(location) if (300..400).contains(&answer.status) => {
                    url = match location.strip_prefix('/') {
                        Some(path) => format!("http://{}/{path}", Request::get(&url).authority()),
                        None => location.to_owned(),
                    };
                }
                _ => return (url, answer),
            }
        }
        panic!("too many redirects, the last to {url}");
    }

    /// Sends `request` with the cookies of its host, and keeps those of the answer.
    pub async fn send(&self, request: &Request) -> Answer {
        let cookies = self.jar().header(request.host());
        let mut connection = Connection::open(self.gate).await;
        connection.send(request.bytes(cookies.as_deref())).await;
        let answer = connection.answer_to(&request.method).await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {}", request.url));
        for line in answer.headers_named("set-cookie") {
            self.jar().take(line, request.host());
        }
        answer
    }

    /// Takes a cookie as if `host` had set it: `name=value; Domain=…`.
    pub fn set_cookie(&self, host: &str, line: &str) {
        self.jar().take(line, host);
    }

    /// Takes all of a `Cookie` header's value (`a=1; b=2`) as cookies for `domain` and all below.
    pub fn set_cookies(&self, domain: &str, header: &str) {
        for pair in header.split("; ") {
            self.set_cookie(domain, &format!("{pair}; Domain={domain}"));
        }
    }

    /// The `Cookie` header's value that would go to `host`.
    pub fn cookies(&self, host: &str) -> Option<String> {
        self.jar().header(host)
    }

    fn jar(&self) -> MutexGuard<'_, Jar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to be sent.
#[derive(Clone)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request for `url` (`http://host[:port]/…`) that names no kind: what curl would send.
    pub fn new(method: &str, url: &str) -> Self {
        assert!(url.starts_with("http://"), "{url}");
        Self { method: method.to_owned(), url: url.to_owned(), headers: vec![], body: vec![] }
    }

    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A form as a page of the same origin posts it.
    pub fn form(url: &str, body: &str) -> Self {
        let request = Self::new("POST", url).navigation().body(body);
        let origin = format!("http://{}", request.authority());
        request
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Origin", &origin)
            .header("Sec-Fetch-Site", "same-origin")
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Marks it as a navigation.
    #[must_use]
    pub fn navigation(self) -> Self {
        self.header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", "document")
    }

    /// Marks it as a script's, of a page that stands to its target as `site` says: `same-origin`,
    /// `same-site`, `cross-site`.
    #[must_use]
    pub fn fetch(self, site: &str) -> Self {
        self.header("Accept", "*/*")
            .header("Sec-Fetch-Mode", "cors")
            .header("Sec-Fetch-Dest", "empty")
            .header("Sec-Fetch-Site", site)
    }

    /// Host and port, as in `Host`.
    fn authority(&self) -> &str {
        let rest = self.url.strip_prefix("http://").unwrap_or_default();
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    fn host(&self) -> &str {
        self.authority().split(':').next().unwrap_or_default()
    }

    fn bytes(&self, cookies: Option<&str>) -> Vec<u8> {
        let authority = self.authority();
        let target = self.url.strip_prefix("http://").unwrap_or_default();
        let target = match &target[authority.len()..] {
            "" => "/",
            target => target,
        };
        let mut head = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", self.method);
        let length = self.body.len().to_string();
        let framing = (!self.body.is_empty()).then_some(("Content-Length", length.as_str()));
        let cookies = cookies.map(|cookies| ("Cookie", cookies));
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(cookies).chain(framing) {
            write!(head, "{name}: {value}\r\n").expect("a String takes all");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

#[cfg(test)]
mod tests {
    use foregate_stage::{Origin, Script, Step};

    use super::*;

    #[tokio::test]
    async fn a_browser_follows_redirects_and_carries_cookies_along() {
        let origin = Origin::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let there = ["Set-Cookie: a=1; Domain=x.test", "Location: http://b.x.test/there?q"];
        origin.script("/here", Script::answer("302 Found", &there, ""));
        let back = ["Set-Cookie: b=2", "Location: /end"];
        origin.script("/there", Script::answer("303 See Other", &back, ""));

        let browser = Browser::new(origin.address());
        let (url, answer) = browser.follow("http://a.x.test:81/here").await;
        assert_eq!((url.as_str(), answer.status), ("http://b.x.test/end", 200));
        assert_eq!(answer.seen_header("cookie").as_deref(), Some("a=1; b=2"));
        assert_eq!(answer.seen_header("sec-fetch-mode").as_deref(), Some("navigate"));
        assert_eq!(origin.seen()[0].header("host"), ["a.x.test:81"]);
        assert_eq!(browser.cookies("a.x.test").as_deref(), Some("a=1"));
    }

    #[tokio::test]
    async fn an_answer_is_read_by_its_framing() {
        let origin = Origin::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let mut connection = Connection::open(origin.address()).await;
        let chunked = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                        3\r\nabc\r\n0\r\nT: 1\r\n\r\n";
        origin.script("/a", Script::new([Step::Write(chunked.to_vec())]));
        let whole = b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec();
        origin.script("/b", Script::new([Step::Write(whole), Step::Close]));

        connection
            .send("GET /a HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
            .await;
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.text().as_str(), answer.trailers.len()), ("abc", 1));
        assert_eq!(connection.answer_to("HEAD").await.unwrap().body, b"");
        assert_eq!(connection.answer().await.unwrap().text(), "until the end");
        assert!(connection.answer().await.is_none());
        connection.closed().await;
    }
}
