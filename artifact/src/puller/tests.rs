//! How a puller bears a registry that is hostile, broken or wants a token.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::assemble::Assembled;
use crate::config::{Credentials, DockerConfig};
use crate::fixture::module;
use crate::fixture::server::{Reply, Request, Server};

fn artefact() -> Assembled {
    let files = vec![
        module("lp_a", "6.1.0-1-amd64", None),
        module("lp_a", "6.1.0-2-amd64", Some("aabbccdd")),
    ];
    Assembled::new(files, &[]).unwrap()
}

/// What an honest registry answers.
fn honest(artefact: &Assembled, request: &Request) -> Reply {
    let contents = artefact.modules.iter().flat_map(|m| [&m.manifest, &m.config, &m.layer]);
    contents
        .chain([&artefact.index])
        .find(|content| request.line.contains(content.digest.as_str()))
        .map_or_else(
            || Reply::new(404, "no such thing"),
            |content| Reply::new(200, &content.bytes),
        )
}

/// A puller that may read from this server.
fn puller_of(server: &Server, docker: DockerConfig) -> (Puller, Repository) {
    let config = RegistryConfig {
        plain_http: true,
        docker,
        ..RegistryConfig::default()
    };
    let allowed = [server.host().parse().unwrap()].into_iter().collect();
    (
        Puller::new(config, allowed).unwrap(),
        format!("{}/a/b", server.host()).parse().unwrap(),
    )
}

fn credentials(server: &Server) -> DockerConfig {
    DockerConfig::default().with(
        &server.host(),
        Credentials::Basic {
            username: "user".to_owned(),
            password: "secret".to_owned(),
        },
    )
}

/// The error of a bundle that this server sends.
async fn refused(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (PullError, Server) {
    let server = Server::start(answer);
    let (puller, repository) = puller_of(&server, DockerConfig::default());
    let error = puller
        .bundle(&repository.at(artefact().index.digest))
        .await
        .unwrap_err();
    (error, server)
}

#[tokio::test]
async fn a_bundle_and_its_modules_are_read() {
    let artefact = artefact();
    let server = Server::start({
        let artefact = artefact.clone();
        move |request| honest(&artefact, request)
    });
    let (puller, repository) = puller_of(&server, credentials(&server));
    let bundle = puller
        .bundle(&repository.at(artefact.index.digest.clone()))
        .await
        .unwrap();
    assert_eq!(bundle, artefact.bundle);
    for (entry, pushed) in bundle.entries.iter().zip(&artefact.modules) {
        let module = puller.module(&repository, &entry.manifest).await.unwrap();
        assert_eq!(module.bytes, pushed.layer.bytes);
        assert_eq!(module.claimed, entry.inspection);
    }
    // Nobody asked for the password, so nobody was told.
    assert!(server.seen().iter().all(|request| request.authorization.is_empty()));
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_kept_and_renewed() {
    let artefact = artefact();
    let given = Arc::new(AtomicUsize::new(0));
    let address = Arc::new(Mutex::new(String::new()));
    let server = Server::start({
        let (artefact, given, address) = (artefact.clone(), Arc::clone(&given), Arc::clone(&address));
        move |request| {
            if request.line.starts_with("GET /token") {
                let expected = "GET /token?service=the+registry&scope=repository%3Aa%2Fb%3Apull ";
                assert!(request.line.starts_with(expected), "{}", request.line);
                assert_eq!(request.authorization, "Basic dXNlcjpzZWNyZXQ=");
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                return Reply::new(200, format!("{{\"token\": \"t{number}\", \"expires_in\": 300}}"));
            }
            if request.authorization == format!("Bearer t{}", given.load(Ordering::SeqCst)) {
                return honest(&artefact, request);
            }
            let realm = format!("http://{}/token", address.lock().unwrap());
            Reply::new(401, "").header(
                "WWW-Authenticate",
                &format!("Bearer realm=\"{realm}\",service=\"the registry\",scope=\"x\""),
            )
        }
    });
    *address.lock().unwrap() = server.host();
    let (puller, repository) = puller_of(&server, credentials(&server));
    let reference = repository.at(artefact.index.digest.clone());
    puller.bundle(&reference).await.unwrap();
    puller.bundle(&reference).await.unwrap();
    assert_eq!(given.load(Ordering::SeqCst), 1);
    // The registry forgets the token: the next one is asked for, once.
    given.fetch_add(1, Ordering::SeqCst);
    puller
        .module(&repository, &artefact.bundle.entries[0].manifest)
        .await
        .unwrap();
    assert_eq!(given.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_by_post() {
    let artefact = artefact();
    let address = Arc::new(Mutex::new(String::new()));
    let server = Server::start({
        let (artefact, address) = (artefact.clone(), Arc::clone(&address));
        move |request| {
            if request.line.starts_with("POST /token ") {
                for part in [
                    "grant_type=refresh_token",
                    "refresh_token=refresh%26me",
                    "scope=repository%3Aa%2Fb%3Apull",
                ] {
                    assert!(request.body.split('&').any(|pair| pair == part), "{}", request.body);
                }
                return Reply::new(200, r#"{"access_token": "t1"}"#);
            }
            if request.authorization == "Bearer t1" {
                return honest(&artefact, request);
            }
            let realm = format!("http://{}/token", address.lock().unwrap());
            Reply::new(401, "").header("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))
        }
    });
    *address.lock().unwrap() = server.host();
    let docker = DockerConfig::default().with(&server.host(), Credentials::IdentityToken("refresh&me".to_owned()));
    let (puller, repository) = puller_of(&server, docker);
    puller.bundle(&repository.at(artefact.index.digest)).await.unwrap();
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let started = Instant::now();
    let (error, _) = refused(|_| Reply::endless()).await;
    assert_eq!(error.reason(), "TooLarge");
    let (error, server) = refused(|_| Reply::announcing(1 << 40)).await;
    assert_eq!(error.reason(), "TooLarge");
    assert_eq!(server.count("GET"), 1);
    // So is an error page, and what is shown of it is short.
    let (error, _) = refused(|_| Reply::new(500, vec![b'x'; 1 << 20])).await;
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(error.to_string().len() < 1024);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times_and_what_is_final_once() {
    let (error, server) = refused(|_| Reply::new(503, "upgrading\u{1b}[2J now")).await;
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(error.is_retryable());
    assert!(
        error.to_string().contains("503") && error.to_string().contains("upgrading [2J now"),
        "{error}"
    );
    assert_eq!(server.count("GET"), 3);

    let (error, server) = refused(|_| Reply::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)).await;
    assert_eq!(error.reason(), "DigestUnknown");
    assert!(error.to_string().contains("NAME_UNKNOWN"), "{error}");
    assert_eq!(server.count("GET"), 1);

    let (error, server) = refused(|_| Reply::new(403, "no")).await;
    assert_eq!(error.reason(), "Unauthorized");
    assert!(error.to_string().contains("no credentials for 127.0.0.1"), "{error}");
    assert_eq!(server.count("GET"), 1);

    let (error, server) = refused(|_| Reply::new(400, "what?")).await;
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert_eq!(server.count("GET"), 1);

    let (error, server) = refused(|_| Reply::announcing(100)).await;
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert_eq!(server.count("GET"), 3);
}

#[tokio::test]
async fn a_passing_fault_is_not_seen_by_the_caller() {
    let artefact = artefact();
    let reference = artefact.index.digest.clone();
    let faults = AtomicUsize::new(2);
    let server = Server::start(move |request| {
        let left = faults.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            Reply::new(502, "")
        } else {
            honest(&artefact, request)
        }
    });
    let (puller, repository) = puller_of(&server, DockerConfig::default());
    puller.bundle(&repository.at(reference)).await.unwrap();
}

#[tokio::test]
async fn other_bytes_are_never_returned() {
    let (error, _) = refused(|_| Reply::new(200, "{}")).await;
    assert_eq!(error.reason(), "DigestMismatch");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_password_and_not_for_ever() {
    let artefact = artefact();
    let storage = Server::start({
        let artefact = artefact.clone();
        move |request| honest(&artefact, request)
    });
    let elsewhere = storage.host();
    let server = Server::start({
        let artefact = artefact.clone();
        move |request| {
            if request.authorization.is_empty() {
                return Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"");
            }
            if !request.line.contains("/blobs/") {
                return honest(&artefact, request);
            }
            let path = request.line.split(' ').nth(1).unwrap();
            // Another name of this machine is another host.
            let elsewhere = elsewhere.replace("127.0.0.1", "localhost");
            Reply::new(307, "").header("Location", &format!("http://{elsewhere}{path}"))
        }
    });
    let (puller, repository) = puller_of(&server, credentials(&server));
    puller.bundle(&repository.at(artefact.index.digest)).await.unwrap();
    assert!(
        server
            .seen()
            .iter()
            .any(|request| request.authorization == "Basic dXNlcjpzZWNyZXQ=")
    );
    assert_eq!(storage.count("GET"), 2);
    assert!(storage.seen().iter().all(|request| request.authorization.is_empty()));

    let (error, server) =
        refused(|request| Reply::new(307, "").header("Location", request.line.split(' ').nth(1).unwrap())).await;
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(error.to_string().contains("redirect"), "{error}");
    assert!(server.count("GET") <= 7, "{}", server.count("GET"));
}

#[tokio::test]
async fn a_mirror_that_is_away_is_asked_last_for_a_while() {
    let artefact = artefact();
    let origin = Server::start({
        let artefact = artefact.clone();
        move |request| honest(&artefact, request)
    });
    let mirror = Server::start(|_| Reply::new(503, ""));
    let config = RegistryConfig {
        plain_http: true,
        mirrors: vec![crate::config::Mirror {
            prefix: origin.host().parse().unwrap(),
            endpoint: format!("http://{}", mirror.host()).parse().unwrap(),
            only: false,
        }],
        ..RegistryConfig::default()
    };
    let allowed = [origin.host().parse().unwrap()].into_iter().collect();
    let puller = Puller::new(config, allowed).unwrap();
    let repository: Repository = format!("{}/a/b", origin.host()).parse().unwrap();
    puller
        .bundle(&repository.at(artefact.index.digest.clone()))
        .await
        .unwrap();
    assert_eq!(mirror.count("GET"), 1);
    // A digest that the origin does not have is not known to be unknown while the mirror is away.
    let error = puller.bundle(&repository.at(Digest::of(b"other"))).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable");
    assert!(
        error.to_string().contains("503") && error.to_string().contains("404"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_allowed_is_not_asked_for() {
    let server = Server::start(|_| Reply::new(404, ""));
    let puller = Puller::new(RegistryConfig::default(), AllowedRepositories::default()).unwrap();
    let repository: Repository = format!("{}/a/b", server.host()).parse().unwrap();
    let error = puller.bundle(&repository.at(Digest::of(b""))).await.unwrap_err();
    assert_eq!(error.reason(), "RepositoryNotAllowed");
    assert!(puller.module(&repository, &Digest::of(b"")).await.is_err());
    assert!(server.seen().is_empty());
}
