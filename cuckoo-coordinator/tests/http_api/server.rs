//! Connections: how many, how long their headers, and TLS.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cuckoo_coordinator::{Server, Tls, TlsSettings, router};
use cuckoo_core::{ErrorKind, paths};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::{StatusCode, Version};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::market::Market;

/// A server with settings of its own in front of a market; gives its address. It stops with the guard.
async fn serve(market: &Market, with: impl FnOnce(Server) -> Server) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let server = with(Server::new(listener));
    let routes = router(market.coordinator.clone());
    tokio::spawn(server.serve(routes, stop.clone().cancelled_owned()));
    (address, stop.drop_guard())
}

/// Sends a request for the health over a connection that stays open, and reads the head of the answer.
async fn ask(connection: &mut TcpStream, extra: &str) -> String {
    let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{extra}\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1_024];
    let length = connection.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_wait() {
    let market = Market::open().await;
    let (address, _server) = serve(&market, |server| server.max_connections(2)).await;
    let connect = || TcpStream::connect(&address);
    let (mut first, mut second) = (connect().await.unwrap(), connect().await.unwrap());
    for connection in [&mut first, &mut second] {
        assert!(ask(connection, "").await.starts_with("HTTP/1.1 200"));
    }
    let mut third = connect().await.unwrap();
    let mut asked = Box::pin(ask(&mut third, ""));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut asked).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    let late = tokio::time::timeout(Duration::from_secs(20), asked).await;
    assert!(late.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let market = Market::open().await;
    let (address, _server) = serve(&market, |server| server).await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let long = format!("X-Long: {}\r\n", "a".repeat(20_000));
    assert!(
        ask(&mut connection, &long)
            .await
            .starts_with("HTTP/1.1 200")
    );
    let endless = format!("X-Long: {}\r\n", "a".repeat(100_000));
    let answer = ask(&mut connection, &endless).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// A folder with a certificate for this machine and its key.
struct Files(TempDir);

impl Files {
    fn new() -> (Self, CertificateDer<'static>) {
        let files = Self(tempfile::tempdir().unwrap());
        let certificate = files.renew();
        (files, certificate)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Writes another certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        std::fs::write(self.path("cert.pem"), cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            cert_file: self.path("cert.pem"),
            key_file: self.path("key.pem"),
        }
    }
}

/// What a client that trusts `root` alone gets over a new connection.
async fn get(
    address: &str,
    root: &CertificateDer<'static>,
    protocol: &str,
) -> reqwest::Result<reqwest::Response> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .timeout(Duration::from_secs(20));
    let url = format!("https://{address}{}", paths::HEALTH);
    client.build().unwrap().get(url).send().await
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls() {
    let market = Market::open().await;
    let (files, root) = Files::new();
    let tls = Tls::load(files.settings()).unwrap();
    let (address, _server) = serve(&market, |server| server.tls(tls)).await;
    // Whoever connects and says nothing holds up nobody.
    let _silent = TcpStream::connect(&address).await.unwrap();
    for (protocol, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let answer = get(&address, &root, protocol).await.unwrap();
        assert_eq!(
            (answer.status(), answer.version()),
            (StatusCode::OK, version)
        );
    }
    let (_, stranger) = Files::new();
    get(&address, &stranger, "h2").await.unwrap_err();
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // A TLS alert, or nothing at all: no HTTP.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_a_bad_one_is_not() {
    let market = Market::open().await;
    let (files, old) = Files::new();
    let tls = Tls::load(files.settings()).unwrap();
    let (address, _server) = serve(&market, |server| server.tls(tls.clone())).await;
    assert!(!tls.reload_if_changed().unwrap());

    let new = files.renew();
    touch(&files.path("cert.pem"), 1);
    assert!(tls.reload_if_changed().unwrap());
    assert!(!tls.reload_if_changed().unwrap());
    get(&address, &new, "h2").await.unwrap();
    get(&address, &old, "h2").await.unwrap_err();

    let other_key = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(files.path("key.pem"), &other_key).unwrap();
    touch(&files.path("key.pem"), 2);
    let error = tls.reload_if_changed().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("key.pem"), "{error}");
    get(&address, &new, "h2").await.unwrap();
}

#[tokio::test]
async fn files_that_are_no_certificate_are_named_without_quoting_them() {
    let (files, _) = Files::new();
    let fails = || Tls::load(files.settings()).unwrap_err();
    std::fs::write(
        files.path("key.pem"),
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n",
    )
    .unwrap();
    let error = fails();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("key.pem"), "{error}");
    assert!(!error.to_string().contains("c2Vj"), "{error}");
    std::fs::write(files.path("cert.pem"), "nothing").unwrap();
    assert!(fails().message().contains("cert.pem"));
    std::fs::remove_file(files.path("cert.pem")).unwrap();
    assert_eq!(fails().kind(), ErrorKind::NotFound);
}

/// Sets when a file was changed, as a clock too coarse for the test would not.
fn touch(path: &Path, seconds: u64) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .unwrap();
}
