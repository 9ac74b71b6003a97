//! TLS for listeners that others reach; the certificate is read anew on SIGHUP,
//! and calls that are under way go on with the old one.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use thiserror::Error;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file that cannot be read as PEM.
    #[error("cannot use {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The two do not belong together, or are of a kind that is not known.
    #[error("the certificate and its key cannot be used: {0}")]
    Pair(#[from] tokio_rustls::rustls::Error),
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let fail = |path: &Path, why: String| TlsError::File { path: path.to_owned(), why };
    let pem = |path: &Path, e: tokio_rustls::rustls::pki_types::pem::Error| fail(path, e.to_string());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| pem(certificate, e))?;
    if chain.is_empty() {
        return Err(fail(certificate, "there is no certificate in it (PEM)".into()));
    }
    let mode = std::fs::metadata(key).map_err(|e: io::Error| fail(key, e.to_string()))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(fail(key, format!("everybody can read the key (mode {:o}); `chmod o= ` it", mode & 0o777)));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| pem(key, e))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    Ok(Arc::new(config))
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let current = RwLock::new(read(certificate, key)?);
        Ok(Self { certificate: certificate.into(), key: key.into(), current })
    }

    /// Reads them again, for connections from now on.
    ///
    /// # Errors
    /// [`TlsError`]; the old one stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = read(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = new;
        Ok(())
    }

    /// What takes the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }
}
