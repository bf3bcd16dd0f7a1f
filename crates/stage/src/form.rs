//! Forms as browsers send them: `application/x-www-form-urlencoded`, in bodies and in queries.

use percent_encoding::percent_decode_str;

/// The first field called `name`, decoded.
pub(crate) fn field(form: &str, name: &str) -> Option<String> {
    form.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_and_decoded() {
        let check = |form: &str, name: &str, value: Option<&str>| {
            assert_eq!(field(form, name).as_deref(), value, "{form}");
        };
        check("email=ada%40example.com&password=a+b", "email", Some("ada@example.com"));
        check("email=ada%40example.com&password=a+b", "password", Some("a b"));
        check("a=1&a=2", "a", Some("1"));
        check("a", "a", Some(""));
        check("ab=1", "a", None);
        check("", "a", None);
        check("a=%zz", "a", Some("%zz"));
    }
}
