//! Chains of clients' certificates: what is verified, and what is too long to be.

use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sluice_ingest::http::tls::Tls;

/// A client's certificate under so many intermediates, the client's first and the root last.
fn chain(intermediates: usize) -> Vec<(String, CertificateDer<'static>)> {
    let mut signer: Option<Issuer<'static, KeyPair>> = None;
    let mut found = Vec::new();
    for n in 0..intermediates + 2 {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("level {n}"));
        if n == intermediates + 1 {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        } else {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = match &signer {
            None => params.self_signed(&key).unwrap(),
            Some(signer) => params.signed_by(&key, signer).unwrap(),
        };
        let der = CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap();
        found.push((certificate.pem(), der));
        signer = Some(Issuer::new(params, key));
    }
    found.reverse();
    found
}

/// How many authorities this chain proves, and in what time.
fn proved(
    chain: &[(String, CertificateDer<'static>)],
    shown: &[CertificateDer<'_>],
) -> (usize, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let authority = crate::tls::Authority::new();
    let yaml = crate::tls::serving(&dir, &authority);
    let (root, _) = chain.last().unwrap();
    std::fs::write(dir.path().join("ca.pem"), root).unwrap();
    let path = dir.path().join("settings.yaml");
    let ca = dir.path().join("ca.pem");
    let settings = format!(
        "kafka: {{bootstrap_servers: b}}\nsources:\n  s: {{provider: flowcode, secrets: [a], \
         client_ca_file: {}}}\ningest:\n{yaml}\n",
        ca.display()
    );
    std::fs::write(&path, settings).unwrap();
    let settings = sluice_service::settings::load(&path).unwrap();
    let current = Tls::load(&settings).unwrap().unwrap().current();
    let since = Instant::now();
    (current.certified(Some(shown)).len(), since.elapsed())
}

#[test]
fn more_than_four_intermediates_prove_nothing() {
    for (intermediates, authorities) in [(0, 1), (4, 1), (5, 0)] {
        let chain = chain(intermediates);
        let shown: Vec<_> = chain[..=intermediates]
            .iter()
            .map(|(_, der)| der.clone())
            .collect();
        let (found, _) = proved(&chain, &shown);
        assert_eq!(found, authorities, "{intermediates} intermediates");
    }
}

#[test]
fn a_long_chain_costs_the_serving_thread_nothing() {
    // A good client with 109 certificates that have nothing to do with it.
    let good = chain(1);
    let mut shown: Vec<_> = good[..2].iter().map(|(_, der)| der.clone()).collect();
    shown.extend(chain(108).into_iter().map(|(_, der)| der));
    let (found, took) = proved(&good, &shown);
    assert_eq!(found, 0, "a chain of {} certificates", shown.len());
    assert!(took < Duration::from_millis(1), "{took:?}");
}
