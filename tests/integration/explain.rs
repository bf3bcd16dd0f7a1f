//! `foregate explain`, as scripts read it, and that the gate does what it says.

use std::process::Command;

use foregate_stage::{SECRET, cookie_header, random, seal_v4};
use foregate_tests::{Request, program};
use serde_json::{Value, json};

use crate::world::{APP, COOKIE, LIFE, World};

/// Asks about a world's configuration.
fn explain(world: &World, arguments: &[&str]) -> Value {
    let output = Command::new(program())
        .args(["explain", "--json", "--config"])
        .arg(world.gate.config_file())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_pass_names_app_rule_session_and_headers() {
    let world = World::start().await;
    let claims = json!({
        "sub": "u-1", "role": "admin", "accessToken": "opaque-token",
        "accessTokenExpiry": 4_000_000_000_000_u64, "exp": 4_000_000_000_u64,
    });
    let cookie = cookie_header(COOKIE, &seal_v4(SECRET, &claims.to_string(), random()));
    let told = explain(
        &world,
        &[
            "http://app.example.com/admin/users?tab=1&nxtPid=7",
            "--cookie",
            &format!("theme=dark; {cookie}"),
            "--header",
            "X_User_Id: forged",
            "--header",
            "Authorization: Bearer forged",
        ],
    );
    assert_eq!(told["app"], "app.example.com");
    let line = world_line(&world, "path = \"/admin/:path*\"") - 1;
    assert_eq!(told["rule"], json!({ "index": 1, "path": "/admin/:path*", "line": line }));
    assert_eq!((&told["access"], &told["roles"]), (&json!("session"), &json!(["admin"])));
    assert_eq!(told["decision"], "pass");
    for absent in ["reason", "status", "location"] {
        assert_eq!(told[absent], Value::Null, "{absent} speaks of a refusal");
    }
    assert_eq!(told["path"], "/admin/users");
    assert_eq!(
        told["session"],
        json!({
            "name": COOKIE, "format": "next-auth-v4", "secret": 0, "subject": "u-1",
            "roles": ["admin"], "expires_at": 4_000_000_000_u64,
            "access_expires_at": 4_000_000_000_u64, "freshness": "fresh",
        })
    );
    assert_eq!(told["upstream"]["url"], format!("{}/admin/users?tab=1", world.origin.url()));
    let set = &told["upstream"]["set"];
    assert_eq!((&set["authorization"], &set["x-user-id"]), (&json!("Bearer …"), &json!("u-1")));
    assert_eq!(told["upstream"]["remove"], json!(["x_user_id", "authorization"]));
    assert!(told["notes"].is_array());
    assert!(!told.to_string().contains("opaque-token"), "no token is shown");
}

/// The line of the configuration that says `text`, from 1.
fn world_line(world: &World, text: &str) -> usize {
    let config = std::fs::read_to_string(world.gate.config_file()).unwrap();
    config.lines().position(|line| line.trim() == text).unwrap() + 1
}

#[tokio::test]
async fn what_it_says_is_what_the_gate_does() {
    let world = World::start().await;
    let (ada, _) = world.visitor("ada", LIFE);
    let (bob, _) = world.visitor("bob", LIFE);
    let stranger = world.stranger();
    let mut refused = 0;
    for path in [
        "/",
        "/about",
        "/About",
        "/public/a",
        "/dashboard",
        "/admin",
        "/ADMIN/x",
        "/%61dmin",
        "/admin.rsc",
        "/_next/data/b/admin.json",
        "/admin;x",
        "/internal/a",
        "/reports/1",
        "/a%2fb",
        "/a//b",
        "/../x",
        "/a%zz",
        "/.foregate/session",
        "/.foregate/x",
    ] {
        for (visitor, method, site) in [
            (&stranger, "GET", "same-origin"),
            (&bob, "GET", "same-origin"),
            (&bob, "POST", "same-origin"),
            (&bob, "POST", "cross-site"),
            (&ada, "GET", "same-origin"),
            (&ada, "POST", "same-origin"),
        ] {
            let url = format!("{APP}{path}");
            let answer = visitor.send(&Request::new(method, &url).fetch(site)).await;
            let site = format!("Sec-Fetch-Site: {site}");
            let mut arguments = vec![&*url, "--method", method, "--header", &site];
            arguments.extend(["--header", "Sec-Fetch-Mode: cors"]);
            let cookie = visitor.cookies("app.example.com");
            if let Some(cookie) = &cookie {
                arguments.extend(["--cookie", cookie]);
            }
            let told = explain(&world, &arguments);
            let context = format!("{arguments:?}: {told}");
            if told["decision"] == "pass" {
                // What Foregate answers by itself has its own methods.
                assert!([200, 405].contains(&answer.status), "{context}");
            } else {
                refused += 1;
                assert_eq!(answer.status, told["status"].as_u64().unwrap() as u16, "{context}");
                assert_eq!(answer.json()["reason"], told["reason"], "{context}");
            }
        }
    }
    assert!(refused > 30, "{refused} refusals were compared");
}

#[tokio::test]
async fn roles_and_claims_stand_for_a_session() {
    let world = World::start().await;
    let admin = format!("{APP}/admin");
    let decision = |arguments: &[&str]| {
        let told = explain(&world, arguments);
        (told["decision"].as_str().unwrap().to_owned(), told["reason"].clone())
    };
    assert_eq!(decision(&[&admin, "--role", "admin"]).0, "pass");
    assert_eq!(decision(&[&admin, "--role", "user"]).1, "role_missing");
    assert_eq!(decision(&[&admin]).1, "no_session");
    let told = explain(&world, &[&admin, "--role", "user", "--role", "admin"]);
    assert_eq!(told["session"]["roles"], json!(["user", "admin"]));
    assert_eq!(told["session"]["name"], Value::Null, "no cookie was opened");

    let file = std::env::temp_dir().join(format!("foregate-claims-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"sub":"7","user":{"roles":["admin"]}}"#).unwrap();
    assert_eq!(decision(&[&admin, "--claims", file.to_str().unwrap()]).0, "pass");
    std::fs::remove_file(file).unwrap();

    let navigation = ["--header", "Sec-Fetch-Mode: navigate"];
    let told = explain(&world, &[&[&*admin][..], &navigation].concat());
    assert_eq!(told["status"], 302);
    let login = "http://auth.example.com/login?callbackUrl=";
    assert!(told["location"].as_str().unwrap().starts_with(login), "{told}");
}
