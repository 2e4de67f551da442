//! The operator's way to the API server, and what happens to requests on it. Does IO.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use tower::{BoxError, Service};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It goes through.
    Passes,
    /// It is carried out, and the answer is lost.
    LosesItsAnswer,
    /// The caller is told that it failed, and it is carried out this much later.
    IsLate(Duration),
    /// It never arrives.
    IsLost,
    /// It is never answered.
    Hangs,
}

type Plan = Arc<Mutex<dyn FnMut(&Method, &Uri) -> Fate + Send>>;

/// A way on which `plan` decides, by method and path, what happens to each request.
#[derive(Clone)]
pub struct Way {
    client: Client,
    plan: Plan,
}

impl Way {
    /// A client whose requests take this way.
    pub fn through(client: Client, plan: impl FnMut(&Method, &Uri) -> Fate + Send + 'static) -> Client {
        let plan: Plan = Arc::new(Mutex::new(plan));
        Client::new(Self { client, plan }, "default")
    }
}

impl Service<Request<Body>> for Way {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fate = (self.plan.lock().unwrap())(request.method(), request.uri());
        let lost = || Err(BoxError::from("connection reset"));
        if fate == Fate::IsLost {
            return Box::pin(async move { lost() });
        }
        let client = self.client.clone();
        match fate {
            Fate::IsLate(time) => {
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    // What became of it nobody knows.
                    let _ = client.send(request).await;
                });
                Box::pin(async move { lost() })
            }
            Fate::LosesItsAnswer => {
                // A task of its own: it is carried out although the caller dies.
                let carried_out = tokio::spawn(async move { client.send(request).await });
                Box::pin(async move {
                    let _ = carried_out.await;
                    lost()
                })
            }
            Fate::Hangs => Box::pin(std::future::pending()),
            Fate::Passes | Fate::IsLost => Box::pin(async move { Ok(client.send(request).await?) }),
        }
    }
}

/// Whether it is a write of a `NodeLivepatch`'s spec.
pub fn is_grant(method: &Method, uri: &Uri) -> bool {
    method == Method::PATCH && uri.path().contains("/nodelivepatches/") && !uri.path().ends_with("/status")
}

/// Whether it is any write.
pub fn is_write(method: &Method) -> bool {
    ![Method::GET, Method::HEAD].contains(method)
}

/// Whether it is a watch of `resource`.
pub fn is_watch(uri: &Uri, resource: &str) -> bool {
    uri.path().ends_with(resource) && uri.query().is_some_and(|query| query.contains("watch=true"))
}
