//! Hosts: one host has one spelling, wherever in a request it stands.

#![no_main]

use foregate_policy::{Field, Head, Host, RawHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let host = Host::parse(text);
    let in_target = Head::parse(RawHead::get(text, "/"));
    assert_eq!(in_target.as_ref().map(Head::host).ok(), host.as_ref().ok());
    let field =
        RawHead { authority: None, host: Field::One(text.as_bytes()), ..RawHead::get("", "/") };
    let in_field = Head::parse(field);
    // Letters outside ASCII may stand in our own configuration alone.
    assert_eq!(in_field.is_ok(), in_target.is_ok() && text.is_ascii());
    assert!(Head::parse(RawHead { authority: Some(text), ..field }).is_ok() == in_field.is_ok());

    let Ok(host) = host else { return };
    let name = host.as_str();
    assert_eq!(Host::parse(name).as_ref(), Ok(&host));
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    assert!(!name.is_empty() && !name.ends_with('.'));
    let authority = in_target.as_ref().map(Head::authority).unwrap_or_default();
    let again = Head::parse(RawHead::get(authority, "/")).expect("sent on");
    assert_eq!((again.host(), again.authority()), (&host, authority));
    match url::Host::parse(name) {
        Ok(url::Host::Domain(domain)) => assert_eq!(domain, name),
        Ok(url::Host::Ipv6(address)) => assert_eq!(format!("[{address}]"), name),
        // Browsers take for an address, sound or not, what ends in a number.
        Ok(url::Host::Ipv4(_)) | Err(_) => {
            let last = name.rsplit('.').next().unwrap_or_default();
            assert!(last.starts_with(|first: char| first.is_ascii_digit()), "{name}");
        }
    }
});
