//! `Origin`: only our own pages and allowed ones may write on the strength of a cookie.

#![no_main]

use std::sync::LazyLock;

use foregate_policy::{Access, AppSpec, Field, Head, PolicySpec, RawHead, Rules};
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|origin: &[u8]| {
    let raw = RawHead { method: "POST", origin: Field::One(origin), ..RawHead::get(HOSTS[0], "/") };
    let admitted = RULES.admits_site(&Head::parse(raw).expect("a sound request"));
    let Ok(origin) = str::from_utf8(origin) else {
        assert!(!admitted);
        return;
    };
    assert_eq!(admitted, RULES.allows_origin(origin));
    if admitted {
        let url = Url::parse(origin).expect("a URL");
        let host = url.host_str().expect("a host").trim_end_matches('.');
        let is_ours = host == HOSTS[0]
            || host.split_once('.').is_some_and(|(_, parent)| parent == "wild.example.com");
        let is_partner = host == "partner.example" && url.scheme() == "https";
        assert!(is_ours || is_partner && url.port().is_none(), "{origin}");
        assert!(["http", "https"].contains(&url.scheme()), "{origin}");
        assert_eq!((url.username(), url.password(), url.path()), ("", None, "/"));
        assert_eq!((url.query(), url.fragment()), (None, None));
    }
});

const HOSTS: [&str; 2] = ["app.example.com", "*.wild.example.com"];

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let app = |host: &str| AppSpec {
        host: host.to_owned(),
        access: Access::Session,
        rules: Vec::new(),
        matcher: None,
        case_sensitive: false,
        base_path: String::new(),
        locales: Vec::new(),
        default_locale: None,
    };
    let spec = PolicySpec {
        apps: HOSTS.map(app).into(),
        role_claims: Vec::new(),
        role_flags: Vec::new(),
        csrf: true,
        allowed_origins: vec!["https://partner.example".to_owned()],
    };
    Rules::compile(&spec).expect("sound rules").0
});
