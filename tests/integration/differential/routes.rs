//! The routes that every server has, and who may see them.

/// A route, by what its pages say of themselves: `served:<name>;`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) name: &'static str,
    /// How its address begins.
    pub(crate) path: &'static str,
    pub(crate) asks: Asks,
}

/// What a visitor must have, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asks {
    Nothing,
    Session,
    Role,
}

/// All routes. The gate's rules for them stand in [`tables`].
pub(crate) const ROUTES: [Route; 12] = [
    Route { name: "home", path: "/", asks: Asks::Nothing },
    Route { name: "about", path: "/about", asks: Asks::Nothing },
    Route { name: "public", path: "/public", asks: Asks::Nothing },
    Route { name: "shop", path: "/shop/", asks: Asks::Nothing },
    Route { name: "files", path: "/files/", asks: Asks::Nothing },
    Route { name: "dashboard", path: "/dashboard", asks: Asks::Session },
    Route { name: "admin", path: "/admin", asks: Asks::Role },
    Route { name: "private", path: "/api/private", asks: Asks::Role },
    Route { name: "edit", path: "/shop/7/edit", asks: Asks::Role },
    Route { name: "vault", path: "/shop/secret", asks: Asks::Role },
    Route { name: "secret", path: "/files/secret", asks: Asks::Role },
    Route { name: "cafe", path: "/caf%C3%A9", asks: Asks::Role },
];

/// How the gate is told about the routes: one `[[app]]` and host for each form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Rules; a session for everything that they do not name.
    Rules,
    /// A middleware's matcher: a session, whatever the role, and all else open.
    Matcher,
    /// Rules, and all else open. Letter case counts where the server says so.
    OpenRules,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Rules, Self::Matcher, Self::OpenRules];

    pub(crate) fn host(self, server: &str) -> String {
        let form = match self {
            Self::Rules => "rules",
            Self::Matcher => "matcher",
            Self::OpenRules => "open",
        };
        format!("{form}.{server}.example.com")
    }

    /// What the gate asks for on a host of this form before a request may lead to `route`.
    pub(crate) fn asks(self, route: Route) -> Asks {
        match self {
            Self::Rules | Self::OpenRules => route.asks,
            Self::Matcher => route.asks.min(Asks::Session),
        }
    }

    /// The tables of the app, after its host and upstream.
    pub(crate) fn tables(self, case_sensitive: bool) -> String {
        match self {
            Self::Rules => RULES.to_owned(),
            Self::Matcher => MATCHER.to_owned(),
            Self::OpenRules => {
                format!("access = \"public\"\ncase_sensitive = {case_sensitive}\n{RULES}")
            }
        }
    }
}

/// The route that an answer comes from; the one that asks for most, if it shows several.
pub(crate) fn served(answer: &[u8]) -> Option<Route> {
    let text = String::from_utf8_lossy(answer);
    let routes = text.match_indices("served:").filter_map(|(at, mark)| {
        let (name, _) = text[at + mark.len()..].split_once(';')?;
        ROUTES.iter().find(|route| route.name == name).copied()
    });
    routes.max_by_key(|route| route.asks)
}

/// The first rule is a mistake that is easily made: pages have their data below `/_next`, too.
const RULES: &str = r#"
  [[app.rule]]
  path = "/_next/:path*"
  access = "public"

  [[app.rule]]
  path = ["/admin/:path*", "/api/private", "/shop/:id/edit", "/shop/secret", "/café", "/files/secret/:path*"]
  roles = ["admin"]

  [[app.rule]]
  path = "/dashboard/:path*"
  access = "session"

  [[app.rule]]
  path = ["/", "/about", "/public/:path*", "/shop/:id", "/files/:path*"]
  access = "public"
"#;

const MATCHER: &str = r#"
matcher = ["/admin/:path*", "/api/private", "/shop/:id/edit", "/shop/secret", "/café", "/files/secret/:path*", "/dashboard/:path*"]
"#;
