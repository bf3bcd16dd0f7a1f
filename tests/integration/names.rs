//! Which names a connection's certificate stands for, and what becomes of requests for others.

use foregate_tests::{Certificates, Gate};

use crate::tls;

#[tokio::test]
async fn a_host_that_the_certificate_does_not_cover_is_asked_for_elsewhere() {
    let one = Certificates::covering(&["*.example.com"]);
    let two = Certificates::covering(&["shop.test"]);
    let pair = |certificates: &Certificates| {
        let (cert, key) = (certificates.certificate().display(), certificates.key().display());
        format!("{{ cert = \"{cert}\", key = \"{key}\" }}")
    };
    let app =
        |host: &str| format!("[[app]]\nhost = \"{host}\"\nupstream = \"http://127.0.0.1:9\"\n");
    let config = [
        "[server]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n",
        &format!("[tls]\ncertificates = [{}, {}]\n", pair(&one), pair(&two)),
        "[session]\nsecrets = [\"a-public-test-secret-do-not-use-0123456789\"]\n",
        &app("app.example.com"),
        &app("shop.test"),
    ]
    .concat();
    let gate = Gate::start(&config).await;
    let address = gate.secure_address().await;
    let check = async |name: &str, certificates: &Certificates, host: &str, expected: &str| {
        let request =
            format!("GET /.foregate/session HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = tls::ask(address, name, certificates.authority(), &request).await;
        assert!(answer.starts_with(expected), "{name} {host}: {answer}");
    };
    // Each name brings its own certificate, or its authority would not be believed.
    check("app.example.com", &one, "app.example.com", "HTTP/1.1 200 ").await;
    check("shop.test", &two, "shop.test", "HTTP/1.1 200 ").await;
    check("app.example.com", &one, "shop.test", "HTTP/1.1 421 ").await;
    check("shop.test", &two, "app.example.com", "HTTP/1.1 421 ").await;
    check("app.example.com", &one, "unknown.example.com", "HTTP/1.1 404 ").await;
    check("app.example.com", &one, "unknown.test", "HTTP/1.1 404 ").await;
}
