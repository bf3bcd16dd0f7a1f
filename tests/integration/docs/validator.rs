//! What a JSON Schema validator that others wrote says of the schema and of configurations
//! (`cargo xtask test` installs it).

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::{pages, path, read, reference};
use crate::recipes::{Folder, blocks, completed};

/// The faults of the schema itself, and of each file by its text.
fn validate(files: &[String]) -> (Vec<Value>, BTreeMap<String, Vec<Value>>) {
    let schema = Folder::new("");
    schema.write("schema.json", &reference::schema().to_string());
    let folders: Vec<Folder> = files.iter().map(|text| Folder::new(text)).collect();
    let output = Command::new(path("tests/schema/.venv/bin/python"))
        .arg(path("tests/schema/validate.py"))
        .arg(schema.path("schema.json"))
        .args(folders.iter().map(|folder| folder.path("proxy.toml")))
        .output()
        .expect("cargo xtask test installs the validator");
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |folder: &Folder| told["files"][folder.path("proxy.toml")].as_array().unwrap().clone();
    let by_text = files.iter().cloned().zip(folders.iter().map(of)).collect();
    (told["schema"].as_array().unwrap().clone(), by_text)
}

#[test]
fn it_takes_the_repository_s_own_file_and_every_one_on_a_page() {
    let mut files = vec![read("proxy.toml"), read("crates/config/src/tests/full.toml")];
    for markdown in pages().values() {
        let configurations = blocks(markdown).filter(|block| block.language() == "toml");
        files.extend(configurations.map(|block| completed(block.text)));
    }
    let (of_schema, of_files) = validate(&files);
    assert_eq!(of_schema, Vec::<Value>::new(), "its own defaults and examples");
    for (text, faults) in &of_files {
        assert!(faults.is_empty(), "{faults:?}\n{text}");
    }
    assert!(of_files.len() > 30, "only {} files", of_files.len());
}

#[test]
fn it_refuses_what_check_refuses() {
    let broken = [
        ("[server]\nhtpp = \"127.0.0.1:1\"\n", "'htpp' was unexpected"),
        ("[srever]\n", "'srever' was unexpected"),
        ("[[app.rule]]\npaths = \"/\"\n", "'paths' was unexpected"),
        ("[server]\nworkers = \"two\"\n", "is not of type 'integer'"),
        ("[server]\nworkers = -1\n", "is less than the minimum"),
        ("[limits]\nheaders = 12.5\n", "is not of type 'integer'"),
        ("[csrf]\nenabled = \"yes\"\n", "is not of type 'boolean'"),
        ("[server]\ntrusted_proxies = \"10.0.0.0/8\"\n", "is not of type 'array'"),
        ("[session]\nformat = \"v3\"\nsecrets = []\n", "is not one of"),
        ("[session]\nsecrets = [{ env = \"A\", file = \"/b\" }]\n", "not valid under any"),
        ("[session]\nsecrets = [{ variable = \"A\" }]\n", "not valid under any"),
        ("[limits]\nidle_timeout = \"soon\"\n", "does not match"),
        ("[limits]\nidle_timeout = 75\n", "is not of type 'string'"),
        ("[limits]\nheader_bytes = \"64kb\"\n", "does not match"),
        ("[backend]\ndialect = \"saml\"\n", "not valid under any"),
        ("[session]\ndomain = \"example.com\"\n", "'secrets' is a required property"),
        ("[session]\nsecrets = []\n", "[] should be non-empty"),
        ("[server]\nhttp = \"localhost\"\n", "'localhost' does not match"),
        ("[server]\nworkers = 5000\n", "is greater than the maximum"),
        ("[server]\ntrusted_proxies = [\"nginx\"]\n", "'nginx' does not match"),
        ("[login]\nurl = \"/login\"\n", "'/login' does not match"),
        ("[roles]\nclaims = [\"role\"]\n", "'role' does not match"),
        ("[roles.flags]\nadmin = \"isAdmin\"\n", "'isAdmin' does not match"),
        ("[refresh]\nledger = \"redis:6379\"\n", "'redis:6379' does not match"),
        ("[csrf]\nallowed_origins = [\"partner.example\"]\n", "does not match"),
        ("[backend]\nrefresh_url = \"api.example.com/r\"\n", "not valid under any"),
        (
            "[backend]\nrefresh_url = \"https://a/r\"\n[backend.refresh]\nmethod = \"post\"\n",
            "not valid",
        ),
        ("[[app.rule]]\npath = \"admin\"\n", "not valid under any"),
        ("[[app.rule]]\npath = []\n", "not valid under any"),
        ("[[app.rule]]\npath = \"/\"\nmethod = \"get\"\n", "not valid under any"),
        (
            "[[app.rule]]\npath = \"/\"\naccess = \"public\"\nroles = [\"a\"]\n",
            "'session' was expected",
        ),
        ("matcher = [\"/a\"]\naccess = \"public\"\n", "False schema does not allow 'public'"),
        ("matcher = [\"/a\"]\n[[app.rule]]\npath = \"/\"\n", "False schema does not allow"),
        ("locales = [\"en\"]\n", "'default_locale' is a dependency of 'locales'"),
        (
            "[[app]]\nhost = \"a.example.com\"\nupstream = \"127.0.0.1:1\"\n",
            "'127.0.0.1:1' is not valid under any",
        ),
        ("[[app]]\nhost = \"a.example.com\"\n", "'upstream' is a required property"),
        (
            "[server]\nhttps = \"127.0.0.1:1\"\n[tls]\ncertificates = [{ cert = \"/etc/tls/a.crt\" }]\n",
            "'key' is a required",
        ),
    ];
    let files: Vec<String> = broken.iter().map(|(text, _)| completed(text)).collect();
    let (_, of_files) = validate(&files);
    for ((_, expected), text) in broken.iter().zip(&files) {
        let told = format!("{:?}", of_files[text]);
        assert!(told.contains(expected), "{told}\n{text}");
        let checked = Folder::new(text).json(&["check", "--json"]);
        assert_eq!(checked["ok"], false, "{text}");
    }
}
