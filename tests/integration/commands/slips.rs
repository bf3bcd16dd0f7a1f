//! What a person reads who made a mistake at the command line, or asks about a session that is over.

use std::process::{Command, Output, Stdio};

use foregate_stage::{SECRET, cookie_header, random, seal_v4};
use foregate_tests::program;
use serde_json::json;

use super::{Config, NOW, V4};

/// The exit code, and what is told.
fn told(output: Output) -> (Option<i32>, String) {
    let code = output.status.code();
    (code, String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn decode_tells_when_a_session_ended_and_says_so_once() {
    let config = Config::new("ended", "");
    let sealed = |claims: &str| cookie_header(V4, &seal_v4(SECRET, claims, random()));
    let decode = ["session", "decode", "--now", NOW];
    let ended = sealed(r#"{"sub":"1","iat":1767218400,"exp":1767222000}"#);
    let others = format!("{ended}; authjs.session-token=junk");
    let expected = "no session: next-auth.session-token: expired\n\
                    sealed at  1767218400, 2 hours ago\n\
                    ended at   1767222000, 60 minutes ago\n\
                    not taken: authjs.session-token: not a compact JWE with a direct key\n";
    assert_eq!(told(config.run(&decode, &others)), (Some(1), expected.to_owned()));
    let (_, decoded) = config.json(&["session", "decode", "--json", "--now", NOW], &ended);
    let times = (&decoded["issued_at"], &decoded["expires_at"], &decoded["others"][0]["reason"]);
    assert_eq!(times, (&json!(1_767_218_400), &json!(1_767_222_000), &json!("expired")));

    let early = sealed(r#"{"sub":"1","nbf":1767225616}"#);
    let expected = "no session: next-auth.session-token: not yet valid\n\
                    valid from 1767225616, in 16 seconds\n";
    assert_eq!(told(config.run(&decode, &early)), (Some(1), expected.to_owned()));
}

#[test]
fn decode_says_what_a_slip_of_the_hand_would_have_meant() {
    let config = Config::new("slips", "");
    let token = seal_v4(SECRET, r#"{"sub":"1"}"#, random());
    let check = |stdin: &str, name: &[&str], hint: &str| {
        let (code, told) = told(config.run(&[&["session", "decode"], name].concat(), stdin));
        assert!(code == Some(1) && told.contains(&format!("\nhint: {hint}")), "{told}");
    };
    check("\n", &[], "nothing stood on stdin");
    check(&format!("{token}\n"), &[], "this looks like a bare token: say by --name");
    let pair = format!("{V4}={token}");
    check(&pair, &["--name", V4], "with --name the token alone is expected");
    for right in [&pair, &format!("cookie: {pair}\r\n"), &format!("  Cookie:{pair}\n\n")] {
        let (code, told) = told(config.run(&["session", "decode"], right));
        assert_eq!((code, told.contains("hint")), (Some(0), false), "{right}: {told}");
    }
    let state = cookie_header(V4, &seal_v4(SECRET, r#"{"state":"x"}"#, random()));
    let (code, told) = told(config.run(&["session", "decode"], &state));
    assert!(code == Some(0) && told.contains("it names nobody"), "{told}");
}

#[test]
fn claims_that_name_nobody_are_refused_with_the_shape_that_is_expected() {
    let config = Config::new("nobody", "[login]\nurl = \"https://login.example.com/\"");
    let payload = "The cookie's payload is expected, as `foregate session decode` prints it";
    for (claims, why) in [
        ("{}", "it names nobody: none of sub, email, user and an access token is in it"),
        (r#"{"state":"x"}"#, payload),
        ("[]", "not a JSON object. The cookie's payload is expected"),
        ("", payload),
        (r#"{"ada":{"sub":"1"}}"#, "its `ada` does: that alone is the payload"),
        (r#"{"ada":{"session":{"sub":"1"}}}"#, "its `ada.session` does"),
    ] {
        for command in [
            &["session", "mint", "--claims", "-"][..],
            &["explain", "https://app.example.com/", "--claims", "-"],
        ] {
            let (code, told) = told(config.run(command, claims));
            assert_eq!(code, Some(1), "{claims}: {told}");
            let start = "error: --claims -: ";
            assert!(told.starts_with(start) && told.contains(why), "{claims}: {told}");
        }
    }
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let config = Config::new("pipe", "[login]\nurl = \"https://login.example.com/\"");
    let broken = Config::new("broken-pipe", "format = 1");
    let check = |config: &Config, arguments: &[&str], code: i32| {
        // The reader is gone before the first byte.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(program());
        command.args(arguments).stdin(Stdio::null()).stdout(writer);
        if arguments[0] != "schema" && arguments[0] != "completions" {
            command.arg("--config").arg(&config.0);
        }
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*stderr), (Some(code), ""), "{arguments:?}");
    };
    check(&config, &["schema"], 0);
    check(&config, &["completions", "bash"], 0);
    check(&config, &["check"], 0);
    check(&config, &["check", "--json"], 0);
    check(&broken, &["check"], 2);
    check(&config, &["explain", "https://app.example.com/"], 0);
    check(&config, &["explain", "--json", "https://app.example.com/"], 0);
    check(&config, &["session", "decode"], 1);

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut run = Command::new(program());
    let run = run.args(["explain", "https://a.example/", "--config"]).arg(&broken.0);
    let status = run.stdout(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2), "and where nobody reads what is wrong");
}

#[test]
fn a_new_operator_s_slips_are_answered_with_the_way_out() {
    let folder = std::env::temp_dir().join(format!("foregate-slips-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let sound = Config::new("sound", "[login]\nurl = \"https://login.example.com/\"");
    let sound = std::fs::read_to_string(&sound.0).unwrap();
    let file = folder.join("proxy.toml");
    let check = |arguments: &[&str], contents: Option<&[u8]>, code: i32, expected: &str| {
        let _ = std::fs::remove_file(&file);
        if let Some(contents) = contents {
            std::fs::write(&file, contents).unwrap();
        }
        let output = Command::new(program()).args(arguments).current_dir(&folder).output();
        let (found, told) = told(output.unwrap());
        assert!(found == Some(code) && told.contains(expected), "{arguments:?}: {found:?} {told}");
    };
    let none = "error: proxy.toml: there is no such file\n  hint: name the configuration with \
                --config, or start where proxy.toml is";
    check(&["check"], None, 2, none);
    check(&["run"], None, 2, none);
    let directory = "error: .: it is a directory\n  hint: name the file in it: --config \
                     ./proxy.toml";
    check(&["check", "--config", "."], Some(sound.as_bytes()), 2, directory);
    let of_file = |contents: &[u8], code, expected: &str| {
        check(&["check"], Some(contents), code, expected);
    };
    of_file(b"", 2, "session.secrets: missing");
    of_file(b"\n\xEF\xBB[session]\n", 2, "proxy.toml:2:1: it is not UTF-8 text\n  hint: save it");
    of_file(b"\xFF\xFE[\0s\0", 2, "proxy.toml:1:1: it is UTF-16 text");
    for sound in [
        format!("\u{feff}{sound}"),
        sound.replace('\n', "\r\n"),
        sound.replace('\n', "\n\t").replace(" = ", "\t=\t"),
    ] {
        of_file(sound.as_bytes(), 0, "proxy.toml: usable");
    }
    let usage = |arguments: &[&str], expected: &str| {
        check(arguments, Some(sound.as_bytes()), 2, expected);
    };
    usage(&["--config", "proxy.toml", "check"], "--config");
    usage(&["chekc"], "check");
    usage(&["check", "proxy.toml"], "tip: the configuration is named by '--config proxy.toml'");
    usage(&["explain"], "<URL>");
    usage(&["explain", "app.example.com/a"], "a URL begins with http:// or https://");
    usage(&["explain", "/a", "--config", "proxy.toml"], "a URL begins with http:// or https://");
    usage(&["explain", "https://a.example/", "--header", "Accept"], "expected 'Name: value'");
    let both = ["explain", "https://a.example/", "--cookie", "a=b", "--role", "admin"];
    usage(&both, "'--cookie <COOKIE>' cannot be used with '--role <ROLE>'");
    usage(&["session", "mint"], "--claims <FILE>");
    usage(&["completions"], "<SHELL>");
    let missing = ["session", "mint", "--claims", "ada.json"];
    check(&missing, Some(sound.as_bytes()), 1, "error: cannot read ada.json: No such file");
    check(&["health", "--admin", "9901"], None, 1, "--admin 9901: expected server.admin: http://");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_cookie_for_explain_may_come_with_the_header_s_name_and_must_come_with_its_own() {
    let config = Config::new("header", "[login]\nurl = \"https://login.example.com/\"");
    let token = seal_v4(SECRET, r#"{"sub":"1"}"#, random());
    let url = "https://app.example.com/a";
    let explain = |cookie: &str| {
        let (code, told) = config.json(&["explain", "--json", url, "--cookie", cookie], "");
        assert_eq!(code, Some(0));
        (told["decision"].as_str().unwrap().to_owned(), told["notes"].to_string())
    };
    for spelling in ["", "Cookie: ", "cookie:"] {
        assert_eq!(explain(&format!("{spelling}{V4}={token}")).0, "pass", "{spelling}");
    }
    let (decision, notes) = explain(&token);
    assert!(decision == "refuse" && notes.contains("looks like a bare token"), "{notes}");
}
