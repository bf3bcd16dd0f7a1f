//! Carries a redemption to its backend over HTTP/1.1: one connection per call, no redirects
//! followed, answers bounded. What the bytes mean is `foregate_refresh`'s business.

use std::time::Duration;

use bytes::Bytes;
use foregate_refresh::{SendError, TokenAnswer, TokenEndpoint, TokenRequest};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::upstream::connect::{Connector, Offer};

/// The backends, as this machine reaches them. The refresher sets the time limit of a call.
#[derive(Default)]
pub struct HttpEndpoint {
    connector: Connector,
}

impl TokenEndpoint for HttpEndpoint {
    async fn send(&self, request: TokenRequest) -> Result<TokenAnswer, SendError> {
        let never = |why: String| SendError::NeverSent(why);
        let url: Uri = request.url.parse().map_err(|_| never("not a URL".to_owned()))?;
        let tls = url.scheme_str() == Some("https");
        let authority = url.authority().ok_or_else(|| never("a URL without a host".to_owned()))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let outgoing = outgoing(&url, request).map_err(|error| never(error.to_string()))?;

        let stream = match tls {
            true => self.connector.tls(host, port, None, Offer::Http1).await.map(|(tls, _)| tls),
            false => self.connector.tcp(host, port).await,
        };
        let stream = stream.map_err(|error| never(format!("cannot connect: {error}")))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| never(format!("cannot connect: {error}")))?;
        let driver = tokio::spawn(connection);

        let answer = match sender.try_send_request(outgoing).await {
            Ok(answer) => read(answer).await,
            Err(mut error) => Err(match error.take_message() {
                Some(_) => never("the connection closed before the request left".to_owned()),
                None => SendError::Broken(error.into_error().to_string()),
            }),
        };
        driver.abort();
        answer
    }
}

fn outgoing(url: &Uri, request: TokenRequest) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut outgoing = Request::builder()
        .method(request.method.as_str())
        .uri(url.path_and_query().map_or("/", |path| path.as_str()));
    if let Some(authority) = url.authority() {
        outgoing = outgoing.header(header::HOST, authority.as_str());
    }
    for (name, value) in request.headers {
        let mut value = HeaderValue::from_str(&value)?;
        value.set_sensitive(true);
        outgoing = outgoing.header(name, value);
    }
    outgoing.body(Full::new(Bytes::from(request.body)))
}

async fn read(answer: http::Response<Incoming>) -> Result<TokenAnswer, SendError> {
    let (head, body) = answer.into_parts();
    // Seconds only: a date would need a clock, and the contract caps the wait at 30 s anyhow.
    let retry_after = head
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs));
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            SendError::TooLarge
        } else {
            SendError::Broken("the answer broke off".to_owned())
        }
    })?;
    let body = body.to_bytes().to_vec();
    Ok(TokenAnswer { status: head.status.as_u16(), retry_after, body })
}

/// No answer of a token endpoint comes near this; without a bound a backend could fill the memory.
const ANSWER_BYTES: usize = 256 * 1024;
