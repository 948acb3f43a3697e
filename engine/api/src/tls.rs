//! TLS on TCP listeners, as `docker --tls` and `--tlsverify` speak it.
//!
//! It ends before HTTP begins: what the client sends comes out of a socket pair, so that everything behind it, streams
//! that take a connection over too, has a socket like any other.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// A client that has not finished its handshake by then is no client.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Files in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Clients must show a certificate that one of these has signed. None: whoever connects is let in.
    pub client_authority: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("could not load the {what} from {}: {problem}", path.display())]
    File { what: &'static str, path: PathBuf, problem: String },
    #[error("the certificate {} cannot be used with the key {}", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        source: tokio_rustls::rustls::Error,
    },
    #[error("cannot set TLS up")]
    Setup(#[source] tokio_rustls::rustls::Error),
}

/// What a listener needs to speak TLS.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files: later changes to them are for the next start.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let certificates = certificates("certificate", &files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| file("key", &files.key, error.to_string()))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = match &files.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                const WHAT: &str = "certificate authority";
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(WHAT, path)? {
                    roots.add(certificate).map_err(|error| file(WHAT, path, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder
                    .with_client_cert_verifier(verifier.map_err(|error| file(WHAT, path, error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(certificates, key).map_err(|source| {
            let (certificate, key) = (files.certificate.clone(), files.key.clone());
            TlsError::Pair { certificate, key, source }
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The plain side of a client's connection. What comes and goes by it is carried on by a task that ends when both sides
    /// have said all, or one is gone.
    pub(crate) async fn plain(&self, stream: TcpStream) -> io::Result<UnixStream> {
        let mut secret = tokio::time::timeout(HANDSHAKE, self.0.accept(stream)).await??;
        let (ours, mut theirs) = UnixStream::pair()?;
        tokio::spawn(async move {
            // How it ended is the business of the two sides.
            let _ = copy_bidirectional(&mut secret, &mut theirs).await;
        });
        Ok(ours)
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(found) if found.is_empty() => Err(file(what, path, "there is no certificate in it".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(file(what, path, error.to_string())),
    }
}

fn file(what: &'static str, path: &Path, problem: String) -> TlsError {
    TlsError::File { what, path: path.to_owned(), problem }
}
