//! What stands on the command line. The help texts are these comments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::explain::{HeaderLine, Url};

/// A reverse proxy for apps that share one NextAuth.js or Auth.js login.
///
/// It opens the session cookie, keeps the access token in it fresh, decides who may pass, and hands
/// each request to its app with `Authorization: Bearer …`.
#[derive(Parser)]
#[command(
    name = "foregate",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  foregate demo"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the proxy.
    ///
    /// Starts without calling anybody: the backend and the apps may all be down.
    #[command(after_help = "Example:\n  foregate run --config /etc/foregate/proxy.toml")]
    Run {
        #[command(flatten)]
        config: Config,
    },
    /// Say everything that is wrong with a configuration, and what is risky.
    ///
    /// Exit code 0: it can be used. 2: it cannot, or there is a warning and --deny-warnings.
    #[command(after_help = CHECK)]
    Check {
        #[command(flatten)]
        config: Config,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Exit code 2 if there is any warning, too, for deployments that nobody watches. What is
        /// printed stays the same: `ok` in the JSON speaks of errors alone.
        #[arg(long)]
        deny_warnings: bool,
    },
    /// Say what would come of a request, and why: app, rule, decision, headers.
    ///
    /// Nothing is sent. Scheme and host of the URL name the app; what follows is taken byte for byte,
    /// as it would stand in a request line.
    #[command(
        after_help = "Examples:\n  foregate explain https://app.example.com/admin --role admin\n  foregate explain https://app.example.com/ --cookie \"$(cat cookie.txt)\"\n  foregate explain 'https://app.example.com/a%2fb' --method POST --json"
    )]
    Explain(ExplainArgs),
    /// Open or write session cookies with the configured secrets.
    #[command(
        after_help = "Example:\n  foregate session mint --claims claims.json | foregate session decode"
    )]
    Session {
        #[command(subcommand)]
        command: SessionCommand,
    },
    /// Ask a running gate whether it is ready, for probes in images without a shell.
    ///
    /// Exit code 0: it is. 1: it is not, or did not answer within 3 s.
    #[command(after_help = HEALTH)]
    Health {
        /// The admin listener, as `http://host:port`, `host:port` or `unix:/path`; by default
        /// server.admin of the configuration.
        #[arg(long, value_name = "URL")]
        admin: Option<String>,
        /// Where to read server.admin; by default proxy.toml, where there is one.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Try it: the proxy with a backend, two apps and a sign-in form, all on this machine.
    #[command(after_help = "Example:\n  foregate demo")]
    Demo {
        /// Another configuration than the one that is built in.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON Schema of proxy.toml, with which editors complete and validate it.
    ///
    /// Even Better TOML and other editors with Taplo take it by a first line in proxy.toml:
    /// `#:schema ./proxy.schema.json`.
    #[command(after_help = "Example:\n  foregate schema > proxy.schema.json")]
    Schema,
    /// Print the completions of these commands for a shell.
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Which shell's.
        shell: Shell,
    },
}

const CHECK: &str = "Examples:
  foregate check
  foregate check --config /etc/foregate/proxy.toml --json
  foregate check --config /etc/foregate/proxy.toml --deny-warnings

Certificates are held against the clock. A ledger's file is tried as the user who asks here: that may
be another one than who runs Foregate.";

const DECODE: &str = "Examples:
  foregate session decode < cookie.txt
  foregate session decode --name __Secure-next-auth.session-token --json < token.txt

cookie.txt holds what a browser shows as the Cookie header of a request, token.txt the value of one
cookie. Both are a session: delete them afterwards.";

const HEALTH: &str = "Examples:
  foregate health
  foregate health --admin 127.0.0.1:9901
  foregate health --admin unix:/run/foregate/admin.sock

As a probe of Docker:
  HEALTHCHECK CMD [\"foregate\", \"health\", \"--config\", \"/etc/foregate/proxy.toml\"]";

const COMPLETIONS: &str = "Examples:
  foregate completions bash > /etc/bash_completion.d/foregate
  foregate completions zsh > \"${fpath[1]}/_foregate\"
  foregate completions fish > ~/.config/fish/completions/foregate.fish";

#[derive(Args)]
pub(crate) struct Config {
    /// The configuration file.
    #[arg(long = "config", value_name = "FILE", default_value = "proxy.toml")]
    pub(crate) path: PathBuf,
}

#[derive(Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) config: Config,
    /// What the visitor asks for.
    pub(crate) url: Url,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// A header of the request, as often as it takes.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<HeaderLine>,
    /// A `Cookie` header's value, as `session mint` prints it and browsers show it.
    #[arg(long, conflicts_with_all = ["roles", "claims"])]
    pub(crate) cookie: Option<String>,
    /// Stands for a fresh session with this role, as often as it takes.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Stands for a session with these claims: a file with the cookie's payload, as `session decode`
    /// prints it; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) claims: Option<PathBuf>,
    /// The time to judge by, in seconds since 1970, instead of the clock.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) now: Option<i64>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// Open the `Cookie` header's value that stands on stdin, and show its claims whole.
    ///
    /// Exit code 0: it opened. 1: it did not.
    #[command(after_help = DECODE)]
    Decode {
        #[command(flatten)]
        config: Config,
        /// Take stdin as a bare token from the cookie of this name.
        #[arg(long)]
        name: Option<String>,
        /// The time to judge by, in seconds since 1970, instead of the clock.
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
        now: Option<i64>,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Seal claims into a cookie, for tests: prints a `Cookie` header's value.
    #[command(
        after_help = "Example:\n  echo '{\"sub\":\"1\",\"email\":\"ada@example.com\"}' | foregate session mint --claims -"
    )]
    Mint {
        #[command(flatten)]
        config: Config,
        /// A file with the cookie's payload, as `session decode` prints it; `-` reads stdin.
        #[arg(long, value_name = "FILE")]
        claims: PathBuf,
        /// Which library's form to write; by default the configured one, else v4's.
        #[arg(long, value_enum)]
        format: Option<FormatArg>,
        /// The time of sealing, in seconds since 1970, instead of the clock.
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
        now: Option<i64>,
        /// Print the `Set-Cookie` lines instead.
        #[arg(long)]
        set_cookie: bool,
    },
}

/// A cookie's form, in the words of `session.format`.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FormatArg {
    NextAuthV4,
    AuthjsV5,
}
