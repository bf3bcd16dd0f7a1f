//! The help of each command, and its examples, which run as they are printed.

use std::process::Command;

use foregate_stage::{random, seal_v4};
use foregate_tests::program;

use super::alone;
use crate::recipes::SECRET;

/// The commands, each as the words that call it; found in the help of the program itself.
fn commands() -> Vec<Vec<String>> {
    let named = |words: &[&str]| -> Vec<String> {
        let (_, help) = alone(&[words, &["--help"]].concat());
        let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
        let lines = list.lines().take_while(|line| line.starts_with("  "));
        let names = lines.filter_map(|line| line.split_whitespace().next());
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    };
    let mut commands = vec![Vec::new()];
    for name in named(&[]) {
        let inner = named(&[&name]);
        commands.push(vec![name.clone()]);
        commands.extend(inner.into_iter().map(|inner| vec![name.clone(), inner]));
    }
    commands
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands = commands();
    for words in &commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, help) = alone(&[&words[..], &["--help"]].concat());
        assert_eq!(code, Some(0), "{words:?}");
        let examples = help.split("\nExample").nth(1);
        let examples = examples.unwrap_or_else(|| panic!("{words:?} has no example:\n{help}"));
        let call = [&["foregate"], &words[..]].concat().join(" ");
        assert!(examples.contains(&call), "{words:?} has an example of something else:\n{help}");
        let (code, usage) = alone(&[&words[..], &["--nonsense"]].concat());
        assert_eq!((code, usage.contains("--nonsense")), (Some(2), true), "{words:?}: {usage}");
    }
    assert!(commands.len() >= 10, "{commands:?}");
}

/// The lines of a command's help that call the program.
fn examples(words: &[String]) -> Vec<String> {
    let words = words.iter().map(String::as_str).chain(["--help"]);
    let (_, help) = alone(&words.collect::<Vec<_>>());
    let examples = help.split("\nExample").nth(1).unwrap_or_default();
    let lines = examples.lines().map(str::trim);
    lines
        .filter(|line| line.contains("foregate ") && !line.starts_with("HEALTHCHECK"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_example_runs_as_it_is_printed() {
    let folder = std::env::temp_dir().join(format!("foregate-examples-{}", std::process::id()));
    std::fs::create_dir_all(folder.join(".config/fish/completions")).unwrap();
    let config = format!(
        "[server]\ntrusted_proxies = [\"10.0.4.16\"]\n[session]\nsecrets = [{{ file = {:?} }}]\n\
         [login]\nurl = \"https://app.example.com/login\"\n[[app]]\nhost = \"app.example.com\"\nupstream = \"http://127.0.0.1:1\"\naccess = \"public\"\n",
        folder.join("secret.txt")
    );
    let token = seal_v4(SECRET, r#"{"sub":"1"}"#, random());
    for (file, text) in [
        ("proxy.toml", &config),
        ("claims.json", &r#"{"sub":"1"}"#.to_owned()),
        ("token.txt", &token),
        ("secret.txt", &SECRET.to_owned()),
        ("cookie.txt", &format!("Cookie: __Secure-next-auth.session-token={token}\n")),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let programs = folder.join("programs");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(program(), programs.join("foregate")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());

    let mut count = 0;
    let lines = commands().into_iter().flat_map(|words| examples(&words));
    for line in lines {
        // What serves until it is stopped, and what is written where only root may write.
        let serves = line.contains("foregate run") || line.contains("foregate demo");
        let here = line.replace("/etc/foregate/", "").replace("/etc/bash_completion.d/", "bash-");
        let here = here.replace("\"${fpath[1]}/_foregate\"", "_foregate");
        let here = if serves { format!("{here} --help") } else { here };
        let output = Command::new("sh")
            .args(["-c", &here])
            .current_dir(&folder)
            .env("PATH", &path)
            .env("HOME", &folder)
            .output()
            .unwrap();
        // Whether something that is ready runs here is not for this test to say.
        let is_done = |code| code == 0 || (code == 1 && line.contains("foregate health"));
        assert!(output.status.code().is_some_and(is_done), "{line}: {output:?}");
        count += 1;
    }
    assert!(count >= 15, "only {count} examples");
    std::fs::remove_dir_all(&folder).unwrap();
}
