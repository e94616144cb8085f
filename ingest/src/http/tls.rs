//! TLS: the certificate, read again when it changes, and the authorities of clients' certificates.

use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sluice_schemas::identity::sha256;
use sluice_schemas::metric::ingest::INGEST_CERTIFICATE_EXPIRY;
use sluice_schemas::settings::{Fault, Settings, TlsFiles};
use sluice_service::files::{self, MAX_PEM_BYTES};
use sluice_service::metric::register;
use sluice_service::watch::{
    self, ApplyError, Digest, Policy, Poll, Watched, Watching, digest_of_faults,
};

use super::any_client::AnyClient;
use crate::auth::{AuthorityId, authority_id};

/// What is spoken above TLS, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How often the files are polled: a new pair is in use within twice that.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The most intermediates of a client's certificate. Each is tried as the signer of each other, on the thread
/// that serves: a stranger's chain of a hundred takes as long as hundreds of requests.
const MAX_INTERMEDIATES: usize = 4;

static POLICY: Policy = Policy {
    settle: Duration::ZERO,
    confirm_faults: true,
    retry: Duration::ZERO,
    rejected: "the certificate cannot be read and the last good one stays in use: repair its files",
    restored: "the certificate's files are again those in use",
};

/// The certificate, its key and all authorities, as they were last good.
pub struct Tls {
    current: ArcSwap<Current>,
    files: Mutex<WatchedFiles>,
    expiry: Gauge,
}

/// Which files are watched, and what they hold.
#[derive(Debug)]
struct WatchedFiles {
    files: Files,
    watched: Watched,
}

#[derive(Debug, PartialEq)]
struct Files {
    own: TlsFiles,
    /// A source and its file.
    authorities: Vec<(String, PathBuf)>,
}

/// What connections that begin now are served with.
pub struct Current {
    /// For the handshake.
    pub config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970; 0 where that cannot be read.
    pub expiry: i64,
    authorities: Vec<(AuthorityId, Arc<dyn ClientCertVerifier>)>,
}

impl Debug for Tls {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.current())
    }
}

impl Debug for Current {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Current({} authorities)", self.authorities.len())
    }
}

impl Tls {
    /// Reads all files; `None` where the settings ask for no TLS. All faults are reported at once, and
    /// none shows what a file holds.
    pub fn load(settings: &Settings) -> Result<Option<Arc<Self>>, Vec<Fault>> {
        let Some(files) = Files::new(settings) else {
            return Ok(None);
        };
        let (current, files) = WatchedFiles::load(files)?;
        let expiry = Gauge::default();
        expiry.set(current.expiry);
        Ok(Some(Arc::new(Self {
            current: ArcSwap::from_pointee(current),
            files: Mutex::new(files),
            expiry,
        })))
    }

    /// Registers when the certificate in use ends.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, INGEST_CERTIFICATE_EXPIRY, self.expiry.clone());
    }

    fn r#use(&self, current: Current) {
        self.expiry.set(current.expiry);
        self.current.store(Arc::new(current));
    }

    /// Goes over to the files that changed settings name. With a fault, or where they ask for no TLS, all
    /// stays as it is. The same files as before are not read: [`Tls::watch`] does that, and a pair that is
    /// being replaced now must not keep good settings from being in force.
    pub fn change(&self, settings: &Settings) -> Result<(), Vec<Fault>> {
        let files = Files::new(settings)
            .ok_or_else(|| one("ingest.tls", "is turned off by a restart alone".to_owned()))?;
        let mut watched = self.files.lock();
        if files == watched.files {
            return Ok(());
        }
        let (current, files) = WatchedFiles::load(files)?;
        *watched = files;
        self.r#use(current);
        Ok(())
    }

    /// What a connection that begins now is served with. It keeps that, whatever changes later.
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Polls the files on a thread that ends with the returned value: a disk that hangs stops no request.
    pub fn watch(self: &Arc<Self>, failures: Counter) -> Watching {
        let (thread, watching) = watch::thread();
        let tls = Arc::clone(self);
        thread.start("certificates", POLL_INTERVAL, move || {
            tls.poll(&failures);
            POLL_INTERVAL
        });
        watching
    }

    fn poll(&self, failures: &Counter) {
        let mut files = self.files.lock();
        let WatchedFiles { files, watched } = &mut *files;
        let contents = files.read();
        let digest = match &contents {
            Ok(contents) => digest(contents),
            Err(faults) => digest_of_faults(faults),
        };
        let outcome = watched.poll(digest, Instant::now(), failures, || {
            let loaded = contents.and_then(|contents| current(files, &contents));
            loaded.map_err(ApplyError::Faults)
        });
        if let Poll::Applied(current) = outcome {
            self.r#use(current);
            tracing::info!("a changed certificate is in use");
        }
    }
}

impl WatchedFiles {
    fn load(files: Files) -> Result<(Current, Self), Vec<Fault>> {
        let contents = files.read()?;
        let current = current(&files, &contents)?;
        let watched = Watched::new(&POLICY, None, digest(&contents));
        Ok((current, Self { files, watched }))
    }
}

impl Files {
    /// `None` where the settings ask for no TLS.
    fn new(settings: &Settings) -> Option<Self> {
        let own = settings.ingest.tls.clone()?;
        let mut authorities: Vec<(String, PathBuf)> = Vec::new();
        for source in settings.sources.values() {
            // Several sources may trust the same file, which is then read once.
            if let Some(file) = &source.client_ca_file
                && !authorities.iter().any(|(_, known)| known == file)
            {
                authorities.push((source.name.clone(), file.clone()));
            }
        }
        Some(Self { own, authorities })
    }

    /// The content of the certificate's file, of the key's and of each authority's.
    fn read(&self) -> Result<Vec<Vec<u8>>, Vec<Fault>> {
        let own = [
            ("ingest.tls.cert_file".to_owned(), &self.own.cert_file),
            ("ingest.tls.key_file".to_owned(), &self.own.key_file),
        ];
        let others = self
            .authorities
            .iter()
            .map(|(source, file)| (format!("sources.{source}.client_ca_file"), file));
        let mut faults = Vec::new();
        let contents = own
            .into_iter()
            .chain(others)
            .filter_map(|(path, file)| {
                read(file)
                    .map_err(|message| faults.push(Fault { path, message }))
                    .ok()
            })
            .collect();
        if faults.is_empty() {
            Ok(contents)
        } else {
            Err(faults)
        }
    }
}

impl Current {
    /// The authorities that issued a client's certificate; none, where its chain is too long. Verified once
    /// for each connection, so that requests are admitted and refused by the same work.
    pub fn certified(&self, chain: Option<&[CertificateDer<'_>]>) -> Arc<[AuthorityId]> {
        let Some((client, between)) = chain.and_then(<[_]>::split_first) else {
            return Arc::default();
        };
        if between.len() > MAX_INTERMEDIATES {
            return Arc::default();
        }
        let now = UnixTime::now();
        self.authorities
            .iter()
            .filter(|(_, trust)| trust.verify_client_cert(client, between, now).is_ok())
            .map(|(id, _)| *id)
            .collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    files::read(path, MAX_PEM_BYTES)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn digest(contents: &[Vec<u8>]) -> Digest {
    let all: Vec<u8> = contents
        .iter()
        .flat_map(|content| sha256(content))
        .collect();
    sha256(&all)
}

fn one(path: &str, message: String) -> Vec<Fault> {
    let path = path.to_owned();
    vec![Fault { path, message }]
}

/// What connections are served with, from the files' contents in the order of [`Files::read`].
fn current(files: &Files, contents: &[Vec<u8>]) -> Result<Current, Vec<Fault>> {
    let [cert, key, others @ ..] = contents else {
        return Err(one("ingest.tls", "is not whole".to_owned()));
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut faults = Vec::new();
    let mut trusted = Vec::new();
    for ((source, file), pem) in files.authorities.iter().zip(others) {
        match trust(pem, &provider) {
            Ok(verifier) => trusted.push((authority_id(file), verifier)),
            Err(message) => {
                let path = format!("sources.{source}.client_ca_file");
                faults.push(Fault { path, message });
            }
        }
    }
    let asks = (!files.authorities.is_empty()).then(|| AnyClient {
        hints: trusted
            .iter()
            .flat_map(|(_, trust)| trust.root_hint_subjects().to_vec())
            .collect(),
        algorithms: provider.signature_verification_algorithms,
    });
    match server_config(cert, key, asks, provider) {
        Ok(config) if faults.is_empty() => Ok(Current {
            config: Arc::new(config),
            expiry: expiry(cert),
            authorities: trusted,
        }),
        Ok(_) => Err(faults),
        Err(fault) => {
            let own = &files.own;
            let (cert, key) = (own.cert_file.display(), own.key_file.display());
            faults.extend(one("ingest.tls", format!("{fault} ({cert}, {key})")));
            Err(faults)
        }
    }
}

fn server_config(
    cert: &[u8],
    key: &[u8],
    asks: Option<AnyClient>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let chain = certificates(cert)?;
    // The parser's error is not reported: it may show some of the key.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "the key is not a private key in PEM".to_owned())?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match asks {
        Some(asks) => builder.with_client_cert_verifier(Arc::new(asks)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    // A sender that closes behind its request has not read a ticket, and then its system resets the
    // connection and throws away what it has not sent yet. So TLS 1.3 has no resumption, and each of its
    // connections makes a full handshake, of which the signature costs most with an RSA key and little
    // with an ECDSA key. TLS 1.2 still resumes by session id, which the handshake itself carries.
    config.send_tls13_tickets = 0;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("the certificate is not PEM: {error}"))?;
    if found.is_empty() {
        return Err("there is no certificate in the file".to_owned());
    }
    Ok(found)
}

/// When the first certificate of a chain ends, in seconds since 1970. What cannot be read costs the metric
/// alone, which then says that it has ended.
fn expiry(chain: &[u8]) -> i64 {
    let chain = certificates(chain).unwrap_or_default();
    let end = chain.first().and_then(|own| {
        let (_, own) = x509_parser::parse_x509_certificate(own).ok()?;
        Some(own.validity().not_after.timestamp())
    });
    end.unwrap_or_else(|| {
        tracing::warn!("the end of the certificate cannot be read; its metric says 1970");
        0
    })
}

fn trust(
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}
