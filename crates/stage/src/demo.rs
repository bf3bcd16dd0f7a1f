//! The whole world of `foregate demo`: a backend, two apps and a sign-in form on loopback.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::apps::{DemoApp, DemoAppSettings, Page};
use crate::backend::{Account, Backend, BackendSettings};
use crate::sign_in::{SignIn, SignInSettings};

/// Where the demo listens: what the gate's configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoAddresses {
    pub backend: SocketAddr,
    pub app: SocketAddr,
    pub shop: SocketAddr,
    pub sign_in: SocketAddr,
}

/// What the demo must know of the gate.
pub struct DemoSettings {
    pub addresses: DemoAddresses,
    /// The secret that the gate opens sessions with.
    pub secret: String,
    /// The port at which browsers reach the gate.
    pub gate_port: u16,
    /// How long an access token is good: short, so that one sees it renewed.
    pub access_life: Duration,
}

/// A running demo. It ends when this is dropped.
pub struct Demo {
    backend: Backend,
    _app: DemoApp,
    _shop: DemoApp,
    _sign_in: SignIn,
    gate_port: u16,
}

impl Demo {
    /// Who can sign in.
    pub fn accounts(&self) -> &[Account] {
        self.backend.accounts()
    }

    /// The addresses for a visitor's browser, the one to begin with first.
    pub fn urls(&self) -> [String; 3] {
        [APP_HOST, SHOP_HOST, SIGN_IN_HOST].map(|host| origin(host, self.gate_port))
    }
}

/// Starts everything, or says which part could not listen.
pub async fn demo(settings: DemoSettings) -> io::Result<Demo> {
    let DemoSettings { addresses, secret, gate_port, access_life } = settings;
    let [app_origin, shop_origin] = [APP_HOST, SHOP_HOST].map(|host| origin(host, gate_port));

    let backend_settings = BackendSettings { access_life, ..BackendSettings::default() };
    let backend = Backend::start(addresses.backend, backend_settings)
        .await
        .map_err(|why| at("backend", addresses.backend, &why))?;
    let app = DemoAppSettings {
        title: "Demo app".to_owned(),
        pages: APP_PAGES,
        neighbour: ("Shop".to_owned(), format!("{shop_origin}/dashboard")),
    };
    let app = DemoApp::start(addresses.app, app, &backend)
        .await
        .map_err(|why| at("app", addresses.app, &why))?;
    let shop = DemoAppSettings {
        title: "Demo shop".to_owned(),
        pages: SHOP_PAGES,
        neighbour: ("App".to_owned(), format!("{app_origin}/dashboard")),
    };
    let shop = DemoApp::start(addresses.shop, shop, &backend)
        .await
        .map_err(|why| at("shop", addresses.shop, &why))?;
    let sign_in = SignInSettings {
        secret,
        cookie_domain: COOKIE_DOMAIN.to_owned(),
        origins: vec![app_origin, shop_origin],
    };
    let sign_in = SignIn::start(addresses.sign_in, sign_in, &backend)
        .await
        .map_err(|why| at("sign-in form", addresses.sign_in, &why))?;
    Ok(Demo { backend, _app: app, _shop: shop, _sign_in: sign_in, gate_port })
}

fn origin(host: &str, port: u16) -> String {
    format!("http://{host}:{port}")
}

fn at(part: &str, address: SocketAddr, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("the demo's {part} cannot listen at {address}: {why}"))
}

/// Browsers resolve `*.localhost` by themselves, and share no cookies for `localhost` itself.
const COOKIE_DOMAIN: &str = "demo.localhost";
const APP_HOST: &str = "app.demo.localhost";
const SHOP_HOST: &str = "shop.demo.localhost";
const SIGN_IN_HOST: &str = "auth.demo.localhost";

/// As the repository's proxy.toml guards them; the shop has no page for admins.
const SHOP_PAGES: &[Page] = &[HOME, ABOUT, DASHBOARD];
const APP_PAGES: &[Page] = &[HOME, ABOUT, DASHBOARD, ADMIN];

const HOME: Page = Page { path: "/", label: "Home", heading: "Home: open to everyone", open: true };
const ABOUT: Page =
    Page { path: "/about", label: "About", heading: "About: open to everyone", open: true };
const DASHBOARD: Page = Page {
    path: "/dashboard",
    label: "Dashboard",
    heading: "Dashboard: for whoever is signed in",
    open: false,
};
const ADMIN: Page =
    Page { path: "/admin", label: "Admin", heading: "Admin: for admins", open: false };
