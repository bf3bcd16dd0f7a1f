//! Where a visitor may be sent back to. A return address comes from outside, so it is parsed as a
//! browser parses it (WHATWG URL) and goes out only if its host is one of ours; anything odd gives
//! the start page.

use foregate_config::Snapshot;
use foregate_policy::Host;
use url::Url;

/// `asked`, if it is a path or an address on one of the configured hosts; else `/`.
pub(crate) fn safe(asked: Option<&str>, snapshot: &Snapshot) -> String {
    asked.and_then(|asked| allowed(asked, snapshot)).unwrap_or_else(|| "/".to_owned())
}

fn allowed(asked: &str, snapshot: &Snapshot) -> Option<String> {
    let odd = |byte: u8| byte == b'\\' || byte.is_ascii_control();
    let outer_blank = asked.trim() != asked;
    if asked.len() > LONGEST || asked.bytes().any(odd) || outer_blank {
        return None;
    }
    if asked.starts_with('/') {
        // Resolved against some origin, a path must stay on it, and must not become `//host`.
        let base = Url::parse("http://origin.invalid").ok()?;
        let url = base.join(asked).ok()?;
        let path = &url[url::Position::BeforePath..];
        let stays = url.host_str() == base.host_str() && !asked.starts_with("//");
        return (stays && !path.starts_with("//")).then(|| path.to_owned());
    }
    let url = Url::parse(asked).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && !url.path().starts_with("//");
    let host = url.host_str().filter(|_| plain)?;
    let login = snapshot.login.as_ref().and_then(|login| login.url.host_str());
    let is_app = Host::parse(host).is_ok_and(|host| snapshot.rules.is_app_host(&host));
    (is_app || login == Some(host)).then(|| url.into())
}

/// The longest return address, as the vectors of the libraries have it.
const LONGEST: usize = 2048;
