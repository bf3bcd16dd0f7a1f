//! Configuration files: every text either loads or says what is wrong, where, and without a secret.
//! Behind a NUL byte stand variables, one `NAME=value` to a line.

#![no_main]

use foregate_config::{Environment, Severity, parse};
use foregate_policy::{Head, RawHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if text.contains(SECRET) {
        return;
    }
    let (text, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment = Environment::from_pairs(variables.chain([("SECRET", SECRET)]))
        .with_file("/run/secret", SECRET);
    let problems = match parse("proxy.toml", text, &environment) {
        Ok(loaded) => {
            for (host, path) in [("app.a.test", "/"), ("x.a.test", "/a/B%20c;d.rsc")] {
                let head = Head::parse(RawHead::get(host, path)).expect("a sound request");
                let _ = loaded.snapshot.rules.route(&head);
            }
            assert!(loaded.warnings.iter().all(|it| it.severity == Severity::Warning));
            loaded.warnings
        }
        Err(unusable) => {
            let problems = unusable.problems;
            assert!(problems.iter().any(|it| it.severity == Severity::Error));
            problems
        }
    };
    for problem in problems {
        assert!(!problem.message.is_empty());
        assert!(!format!("{problem} {problem:?}").contains(SECRET), "{problem}");
        if let Some(line) = problem.line {
            // An error at the end of a file stands behind its last line.
            let line = text.split('\n').nth(line as usize - 1).expect("a line of the file");
            let columns = line.chars().count() + 1;
            assert!(
                problem.column.is_none_or(|it| (1..=columns).contains(&(it as usize))),
                "{problem}"
            );
        }
    }
});

const SECRET: &str = "kY7#qP2!vB9$wX4z-and-more-of-it";
