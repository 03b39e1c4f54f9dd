//! The other end of the API: what `tandem calls`, `trunks`, `cdr list` and `user` ask with.

use super::Problem;
use crate::types::Secret;
use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// Longest wait for a whole answer: a reload may take the gateway half a minute.
const PATIENCE: Duration = Duration::from_secs(40);
/// Longest answer taken, in bytes; a page of CDRs has a few hundred kilobytes.
const LONGEST: usize = 64 * 1024 * 1024;

/// One gateway's API.
pub struct Client {
    base: String,
    token: Secret,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("\"{0}\" is not an address of an admin API; write it as http://127.0.0.1:8080")]
    BadUrl(String),
    #[error("no gateway answers at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{}", told(.0))]
    Refused(Box<Problem>),
    #[error("{url} answered with something that is not this API: {reason}")]
    Garbled { url: String, reason: String },
}

fn told(problem: &Problem) -> String {
    std::iter::once(&problem.detail).chain(&problem.errors).cloned().collect::<Vec<_>>().join("\n")
}

impl Client {
    /// `url` is the API's root, as `http://127.0.0.1:8080`. TLS is a proxy's business.
    pub fn new(url: &str, token: Secret) -> Result<Client, ClientError> {
        let bad = || ClientError::BadUrl(url.to_owned());
        let parsed: Uri = url.parse().map_err(|_| bad())?;
        if parsed.scheme_str() != Some("http") || parsed.host().is_none() {
            return Err(bad());
        }
        let http = legacy::Client::builder(TokioExecutor::new()).build_http();
        Ok(Client { base: url.trim_end_matches('/').to_owned(), token, http })
    }

    /// Reads a JSON document.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let url = self.url(path, query);
        let answer = self.exchange(Method::GET, &url, "application/json", None).await?;
        self.document(&url, &answer)
    }

    /// Reads a document of another media type.
    pub async fn get_text(
        &self,
        path: &str,
        query: &[(&str, &str)],
        media: &str,
    ) -> Result<String, ClientError> {
        let url = self.url(path, query);
        let answer = self.exchange(Method::GET, &url, media, None).await?;
        Ok(String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// Sends an order with a JSON body and reads the JSON answer.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let url = self.url(path, &[]);
        let garbled = |reason: String| ClientError::Garbled { url: url.clone(), reason };
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| garbled(error.to_string()))?;
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| garbled(error.to_string()))?;
        let answer = self.exchange(method, &url, "application/json", body).await?;
        self.document(&url, &answer)
    }

    fn document<T: DeserializeOwned>(&self, url: &str, answer: &Response<Bytes>) -> Result<T, ClientError> {
        // 204 has no body; `()` reads as null.
        let body: &[u8] = if answer.status() == StatusCode::NO_CONTENT { b"null" } else { answer.body() };
        serde_json::from_slice(body)
            .map_err(|error| ClientError::Garbled { url: url.to_owned(), reason: error.to_string() })
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> String {
        let mut url = format!("{}{path}", self.base);
        for (index, (name, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(&escape(name));
            url.push('=');
            url.push_str(&escape(value));
        }
        url
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        accept: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Bytes>, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { url: self.base.clone(), reason };
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::ACCEPT, accept)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::from(body.unwrap_or_default())).map_err(|e| unreachable(e.to_string()))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| unreachable(root(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(|e| unreachable(e.to_string()))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| {
            Err(unreachable(format!("no answer within {} seconds", PATIENCE.as_secs())))
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        match serde_json::from_slice::<Problem>(answer.body()) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(ClientError::Garbled { url: url.to_owned(), reason: answer.status().to_string() }),
        }
    }
}

/// The innermost reason: "connection refused" says more than "client error (Connect)".
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// One part of a path or query, percent-encoded but for the unreserved characters (RFC 3986 §2.3).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_roots_are_taken() {
        assert!(Client::new("http://[::1]:8080/", Secret::default()).is_ok());
        for bad in ["127.0.0.1:8080", "https://gw", "http://", "nonsense"] {
            assert!(Client::new(bad, Secret::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plus_survives_the_query() {
        let client = Client::new("http://gw", Secret::default()).unwrap();
        assert_eq!(client.url("/x", &[("number", "+32 2"), ("a", "b")]), "http://gw/x?number=%2B32%202&a=b");
    }
}
