//! Request targets: what is taken has one reading, ours and everybody's.

#![no_main]

use foregate_policy::{CanonicalPath, Head, RawHead};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use url::Url;

fuzz_target!(|target: &str| {
    let Ok(head) = Head::parse(RawHead::get("app.example.com", target)) else { return };
    let path = head.path().as_str();
    assert_eq!(CanonicalPath::parse(path).as_ref(), Ok(head.path()));
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");

    let decoded = percent_decode_str(path).decode_utf8().expect("UTF-8");
    assert_eq!(percent_decode_str(&decoded).collect::<Vec<_>>(), decoded.as_bytes());
    // Whether escapes are decoded before or after the path is split, its segments are these.
    assert_eq!(decoded.matches(['/', '\\']).count(), path.matches('/').count(), "{path}");
    assert!(!decoded.contains(['\0', '?', '#']) && !path.contains(['?', '#']), "{path}");
    assert_eq!(decoded.matches(';').count(), path.matches(';').count(), "{path}");
    let segments: Vec<&str> = decoded.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let plain = segment.split(';').next().unwrap_or_default();
        assert!(![".", ".."].contains(&plain), "{path}");
        assert!(!plain.is_empty() || at + 1 == segments.len(), "{path}");
    }

    // The parser of browsers and of Node.
    let url = Url::parse(&format!("http://app.example.com{path}")).expect("a URL");
    assert_eq!(percent_decode_str(url.path()).decode_utf8().as_ref(), Ok(&decoded));
    assert_eq!((url.query(), url.fragment()), (None, None));

    // What goes upstream arrives as what was decided about.
    let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
    let sent = format!("{path}{query}");
    let again = Head::parse(RawHead::get("app.example.com", &sent)).expect("sent on");
    assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    for pair in head.query().unwrap_or_default().split('&') {
        let pair: Vec<u8> = percent_decode_str(pair).collect();
        assert!(!pair.starts_with(b"nxtP") && !pair.starts_with(b"nxtI"), "{query}");
    }
});
