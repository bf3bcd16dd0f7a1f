//! TLS before Redis, with certificates of an authority of one's own.

use foregate_tests::Certificates;

use super::*;

/// What a redis-server needs to speak TLS, and nothing else.
fn with_tls(certificates: &Certificates) -> RedisServer {
    let [authority, certificate, key] =
        [certificates.authority(), certificates.certificate(), certificates.key()]
            .map(|path| path.to_str().unwrap());
    RedisServer::with(&[
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        authority,
        "--tls-auth-clients",
        "no",
    ])
}

#[tokio::test]
async fn a_redis_with_a_certificate_of_a_trusted_authority_is_used() {
    let certificates = Certificates::covering(&["127.0.0.1"]);
    let redis = with_tls(&certificates);
    let site = Site::start().await;
    let trusted = certificates.authority().to_str().unwrap();
    let (url, refresh_url) = (format!("rediss://{}", redis.host()), site.backend.refresh_url());
    let environment = [("SSL_CERT_FILE", trusted)];
    let here = site.gate_with(&url, &refresh_url, &environment).await;
    let there = site.gate_with(&url, &refresh_url, &environment).await;
    let ada = site.grant("ada", ENDED);
    assert_eq!(bearer(&here, &ada).await, bearer(&there, &ada).await);
    assert_eq!(site.counted(), (1, 1, 0));
    told(&here, &format!("[+] ledger {url}")).await;
}

#[tokio::test]
async fn a_redis_with_a_stranger_s_certificate_is_not_used_and_named() {
    let (ours, others) =
        (Certificates::covering(&["127.0.0.1"]), Certificates::covering(&["127.0.0.1"]));
    let redis = with_tls(&others);
    let site = Site::start().await;
    let trusted = ours.authority().to_str().unwrap();
    let url = format!("rediss://{}", redis.host());
    let environment = [("SSL_CERT_FILE", trusted)];
    let gate = site.gate_with(&url, &site.backend.refresh_url(), &environment).await;
    told(&gate, &format!("[!] ledger {url}")).await;
    let why = readiness(&gate).await.1;
    assert!(why.contains("certificate"), "{why}");
    bearer(&gate, &site.grant("ada", ENDED)).await;
    assert_eq!(site.counted(), (1, 1, 0));
}
