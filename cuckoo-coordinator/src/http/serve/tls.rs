//! TLS by rustls: a certificate that may be exchanged while serving.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use cuckoo_core::{Error, Result};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What is offered, best first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where a server's certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM: the server's certificate, then those between it and the authority.
    pub cert_file: PathBuf,
    /// PEM: its private key.
    pub key_file: PathBuf,
}

/// TLS 1.2 and 1.3 with the certificate of two files, ready for [`Server::tls`](super::Server::tls). Cheap to clone;
/// clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    settings: Arc<TlsSettings>,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Current {
    loaded: RwLock<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    /// When the files changed last, as far as the system tells.
    changed: Changed,
}

type Changed = [Option<SystemTime>; 2];

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&loaded.key))
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// `NotFound` for one that cannot be read, `Invalid` for one that is not PEM or for a key of another certificate.
    pub fn load(settings: TlsSettings) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Arc::new(Current {
            loaded: RwLock::new(read(&settings, &provider)?),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::internal("no version of TLS").with_source(source))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self {
            settings: Arc::new(settings),
            provider,
            current,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Reads the files again. New connections get the new certificate; the old one stays when the new one is not good.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn reload(&self) -> Result<()> {
        let loaded = read(&self.settings, &self.provider)?;
        let mut current = self
            .current
            .loaded
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = loaded;
        Ok(())
    }

    /// [Reloads](Self::reload) if a file changed since it was read; tells whether it did.
    ///
    /// # Errors
    /// As [`load`](Self::load); it may have been looked at while it was being written.
    pub fn reload_if_changed(&self) -> Result<bool> {
        let known = {
            let loaded = self.current.loaded.read();
            loaded.unwrap_or_else(PoisonError::into_inner).changed
        };
        let changed = changed(&self.settings) != known;
        if changed {
            self.reload()?;
        }
        Ok(changed)
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

fn changed(settings: &TlsSettings) -> Changed {
    [&settings.cert_file, &settings.key_file].map(|file| file.metadata().ok()?.modified().ok())
}

fn read(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Loaded> {
    // Before the files, so that a change in between is seen the next time.
    let changed = changed(settings);
    let unreadable = |file: &Path, source: rustls::pki_types::pem::Error| {
        let file = file.display();
        match source {
            rustls::pki_types::pem::Error::Io(source) => {
                Error::not_found(format!("cannot read {file}")).with_source(source)
            }
            // Its message quotes the file: never that of a key.
            _ => Error::invalid(format!("{file} is not PEM with what belongs there")),
        }
    };
    let certificates = &settings.cert_file;
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| unreadable(certificates, source))?;
    if chain.is_empty() {
        return Err(Error::invalid(format!(
            "{} has no certificate",
            certificates.display()
        )));
    }
    let key = PrivateKeyDer::from_pem_file(&settings.key_file)
        .map_err(|source| unreadable(&settings.key_file, source))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|source| {
        Error::invalid(format!(
            "the key in {} is not that of the certificate in {}",
            settings.key_file.display(),
            certificates.display()
        ))
        .with_source(source)
    })?;
    Ok(Loaded {
        key: Arc::new(key),
        changed,
    })
}
