//! The HTTP client that every part of Cuckoo starts from.

use std::sync::Arc;

use rustls_platform_verifier::BuilderVerifierExt as _;

/// A client with TLS by rustls and ring, which trusts what the operating system trusts. Bounds on time and size are the
/// caller's to add.
///
/// Without the system's certificates (a bare container) plain HTTP still works, and HTTPS fails with an unknown issuer.
/// Nothing is installed process-wide, so an app that embeds Cuckoo may use any other provider.
pub fn http_client() -> reqwest::ClientBuilder {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let versioned = || {
        rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
    };
    let config = versioned().and_then(|builder| {
        builder
            .with_platform_verifier()
            .map(|builder| builder.with_no_client_auth())
            .or_else(|error| {
                tracing::warn!(%error, "no certificates of the system; HTTPS will not work");
                versioned().map(|builder| {
                    builder
                        .with_root_certificates(rustls::RootCertStore::empty())
                        .with_no_client_auth()
                })
            })
    });
    let builder = reqwest::Client::builder();
    match config {
        Ok(config) => builder.tls_backend_preconfigured(config),
        Err(error) => unreachable!("ring serves TLS 1.2 and 1.3: {error}"),
    }
}
