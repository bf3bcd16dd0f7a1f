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

#[cfg(test)]
mod tests {
    use foregate_config::{Environment, parse};

    use super::*;

    const CONFIG: &str = r#"
        [session]
        secrets = ["a-public-test-secret-do-not-use-0123456789"]
        [login]
        url = "https://login.example.org/in"
        [[app]]
        host = "app.example.com"
        upstream = "http://127.0.0.1:1"
        [[app]]
        host = "*.shops.example.com"
        upstream = "http://127.0.0.1:1"
    "#;

    fn check(asked: &str, expected: &str) {
        let loaded = parse("proxy.toml", CONFIG, &Environment::from_pairs([("", "")]));
        let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
        assert_eq!(safe(Some(asked), &snapshot), expected, "{asked:?}");
    }

    #[test]
    fn paths_and_addresses_of_our_own_hosts_are_kept() {
        check("/", "/");
        check("/a/b?c=d#e", "/a/b?c=d#e");
        check("/a/../b", "/b");
        check("/café", "/caf%C3%A9");
        check("https://app.example.com", "https://app.example.com/");
        check("https://APP.example.com/a?b", "https://app.example.com/a?b");
        check("http://app.example.com:8080/a", "http://app.example.com:8080/a");
        check("https://one.shops.example.com/", "https://one.shops.example.com/");
        check("https://login.example.org/in?x", "https://login.example.org/in?x");
    }

    #[test]
    fn everything_else_leads_to_the_start_page() {
        for asked in [
            "",
            "a",
            "a/b",
            "?a",
            "#a",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ok ",
            " /ok",
            "/a\0b",
            "/a\u{7f}b",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "/%2e%2e//evil.example",
            "https:evil.example",
            "https:/evil.example",
            "https:///evil.example",
            "http://evil.example",
            "https://evil.example/app.example.com",
            "https://evil.example?app.example.com",
            "https://evil.example#app.example.com",
            "https://evil.example\\@app.example.com",
            "https://app.example.com@evil.example",
            "https://app.example.com:pw@evil.example",
            "https://user@app.example.com/",
            "https://user:pw@app.example.com/",
            "https://app.example.com.evil.example",
            "https://evilapp.example.com",
            "https://a.b.shops.example.com/",
            "https://shops.example.com/",
            "https://evil-app.example.com",
            "https://app.example.com//evil.example",
            "https://app.example.com%2eevil.example/",
            "https://app\u{3002}evil.example",
            "https://[::1]/",
            "https://127.0.0.1/",
            "ftp://app.example.com/",
            "ws://app.example.com/",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "blob:https://app.example.com/x",
            "file:///etc/passwd",
            "mailto:ada@app.example.com",
        ] {
            check(asked, "/");
        }
        check(&format!("/{}", "a".repeat(LONGEST)), "/");
    }
}
