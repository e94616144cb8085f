//! The way to a server: plain TCP or TLS, from a local address of the caller's choice, so that a server
//! that counts by peer can keep good clients and bad ones apart.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConnection, HandshakeKind};
use sluice_schemas::identity::sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// The name in the certificates of the harness.
const NAME: &str = "localhost";

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How connections are made.
#[derive(Clone, Default)]
pub struct Wire {
    from: Option<IpAddr>,
    receive_buffer: Option<u32>,
    tls: Option<TlsConnector>,
    handshakes: Option<Arc<Handshakes>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tls = self.tls.is_some();
        write!(formatter, "Wire {{ from: {:?}, tls: {tls} }}", self.from)
    }
}

impl Wire {
    /// Plain TCP.
    pub fn plain() -> Self {
        Self::default()
    }

    /// TLS to a server with this certificate, or one that it signed (PEM), which offers one protocol by ALPN:
    /// `h2` or `http/1.1`.
    pub fn tls(certificate: &Path, protocol: &str) -> Result<Self> {
        Self::over_tls(certificate, protocol, None)
    }

    /// The same by a client that shows certificates of its own, the first of which has this key.
    pub fn tls_as(
        certificate: &Path,
        protocol: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self> {
        Self::over_tls(certificate, protocol, Some((chain, key)))
    }

    fn over_tls(
        certificate: &Path,
        protocol: &str,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Self {
            tls: Some(Arc::new(config).into()),
            ..Self::default()
        })
    }

    /// The same from another local address: all of 127.0.0.0/8 is this machine.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// The same with room for so many bytes that came and were not read, as far as the system goes
    /// that low.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The same with a whole TLS handshake for each connection, as from senders that never came before.
    #[must_use]
    pub fn unknown(mut self) -> Self {
        self.tls = self.tls.map(|tls| {
            let mut config = rustls::ClientConfig::clone(tls.config());
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config).into()
        });
        self
    }

    /// The same, and what its TLS handshakes come to is noted.
    #[must_use]
    pub fn noted(mut self, handshakes: &Arc<Handshakes>) -> Self {
        self.handshakes = Some(Arc::clone(handshakes));
        self
    }

    /// Connects, handshake included.
    pub async fn connect(&self, address: SocketAddr) -> Result<Box<dyn Stream>> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let stream = tls.connect(ServerName::try_from(NAME)?, stream).await;
        if let Some(handshakes) = &self.handshakes {
            handshakes.note(stream.as_ref().ok().map(|stream| stream.get_ref().1));
        }
        Ok(Box::new(stream?))
    }
}

/// What TLS handshakes came to.
#[derive(Debug, Default)]
pub struct Handshakes {
    made: AtomicUsize,
    resumed: AtomicUsize,
    failed: AtomicUsize,
    certificates: Mutex<HashSet<[u8; 32]>>,
}

impl Handshakes {
    /// How many were made, how many of these went on with an earlier session, and how many failed.
    pub fn counts(&self) -> (usize, usize, usize) {
        let [made, resumed, failed] =
            [&self.made, &self.resumed, &self.failed].map(|count| count.load(Relaxed));
        (made, resumed, failed)
    }

    /// The SHA-256 of each certificate that the server showed of itself.
    pub fn certificates(&self) -> HashSet<[u8; 32]> {
        self.lock().clone()
    }

    fn note(&self, connection: Option<&ClientConnection>) {
        let Some(connection) = connection else {
            self.failed.fetch_add(1, Relaxed);
            return;
        };
        self.made.fetch_add(1, Relaxed);
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            // It shows no certificate; the one that is reported is the earlier session's.
            self.resumed.fetch_add(1, Relaxed);
        } else if let Some([own, ..]) = connection.peer_certificates() {
            self.lock().insert(sha256(own));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a fresh certificate for this machine and its key, PEM each.
pub fn write_certificate(certificate: &Path, key: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(certificate, made.cert.pem())?;
    std::fs::write(key, made.signing_key.serialize_pem())?;
    Ok(())
}

/// Signs certificates for this machine, so that a client that trusts it takes one after the other.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for this machine and its key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
    /// The certificate's SHA-256.
    pub digest: [u8; 32],
}

impl Authority {
    /// A fresh one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "authority of the harness");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A fresh certificate with a fresh key.
    pub fn sign(&self) -> Result<Pair> {
        let names = [NAME.to_owned(), "127.0.0.1".to_owned()];
        self.sign_params(&CertificateParams::new(names)?)
    }

    /// A certificate for a client of this name.
    pub fn sign_for(&self, name: &str) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign_params(&params)
    }

    fn sign_params(&self, params: &CertificateParams) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let signed = params.signed_by(&key, &self.0)?;
        Ok(Pair {
            certificate: signed.pem(),
            key: key.serialize_pem(),
            digest: sha256(signed.der()),
        })
    }
}
