//! One connection pool that speaks for many: each agent's requests carry the identity that its own token would have.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use livepatch_rig::install::NAMESPACE;
use tower::{BoxError, Service};

/// Adds an identity to every request, by impersonation.
#[derive(Clone)]
struct Speaker {
    client: Client,
    identity: HeaderMap,
}

/// A client that is the agent of a node, with the claims of a token that is bound to its pod.
pub fn agent_of(client: &Client, node: &str, node_uid: &str) -> Result<Client> {
    let extra = [
        ("impersonate-extra-authentication.kubernetes.io%2fnode-name", node),
        ("impersonate-extra-authentication.kubernetes.io%2fnode-uid", node_uid),
    ];
    speaking(client, "livepatch-agent", &extra)
}

/// A client that is the operator.
pub fn operator(client: &Client) -> Result<Client> {
    speaking(client, "livepatch-operator", &[])
}

fn speaking(client: &Client, account: &str, extra: &[(&'static str, &str)]) -> Result<Client> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let group = format!("system:serviceaccounts:{NAMESPACE}");
    let mut identity = HeaderMap::new();
    identity.insert("impersonate-user", HeaderValue::from_str(&user)?);
    for group in ["system:serviceaccounts", &group, "system:authenticated"] {
        identity.append("impersonate-group", HeaderValue::from_str(group)?);
    }
    for (name, value) in extra {
        let value = HeaderValue::from_str(value).context("a claim")?;
        identity.insert(HeaderName::from_static(name), value);
    }
    let speaker = Speaker {
        client: client.clone(),
        identity,
    };
    Ok(Client::new(speaker, "default"))
}

impl Service<Request<Body>> for Speaker {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let client = self.client.clone();
        for (name, value) in &self.identity {
            request.headers_mut().append(name, value.clone());
        }
        Box::pin(async move { Ok(client.send(request).await?) })
    }
}
