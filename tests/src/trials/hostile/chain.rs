//! Clients whose certificate comes with 110 intermediates, of which each could have issued each: what it
//! costs to find that none proves an authority.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use sluice_tests::harness::metrics::cpu_time;
use sluice_tests::harness::wire::{Authority, Wire, write_certificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::apart::{Place, stage};
use super::attack::{Attack, Seen, politely};
use super::idle::Ends;
use super::peers::attacker;
use super::quiet::{NO_ANSWER, NOT_MADE};
use super::scene::{Outcome, Scene};

/// Certificates between the client's and an authority.
const INTERMEDIATES: u64 = 110;

/// Clients at once.
const CLIENTS: usize = 4;

/// Between two connections of a client.
const PAUSE: Duration = Duration::from_millis(100);

/// A handshake with its request takes no more of ingest's processor time than this. Reading 110 certificates
/// takes about one; looking for a way through them took 10 to 67.
const BOUND_MS: f64 = 6.0;

/// Runs it, over TLS whatever the options say.
pub fn run(place: &Place<'_>) -> Result<Outcome> {
    let mut site = place.site("chain-")?;
    let (certificate, key) = (site.dir().join("own.crt"), site.dir().join("own.key"));
    write_certificate(&certificate, &key)?;
    let files = json!({"cert_file": certificate, "key_file": key});
    site.set(&["ingest", "tls"], files);
    let authority = Authority::new()?;
    let authorities = site.dir().join("authorities.crt");
    std::fs::write(&authorities, authority.certificate())?;
    let guarded = site.source(Attack::LongChain.provider())?.clone();
    let setting = ["sources", &guarded.name, "client_ca_file"];
    site.set(&setting, json!(authorities));

    let own = authority.sign_for("a good sender")?;
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes())?;
    let good = Wire::tls_as(&certificate, "http/1.1", chain, key)?;
    let bad = stranger(&certificate)?;
    let second = site.settings_of_a_second()?;
    let (address, path, time) = (site.listen(), guarded.path(), place.time());
    stage(Attack::LongChain, place, &site, (&second, &good), |scene| {
        attack(scene, &bad, address, &path, time)
    })
}

fn attack(
    scene: &Scene,
    wire: &Wire,
    address: SocketAddr,
    path: &str,
    time: Duration,
) -> Result<Seen> {
    let pids = [scene.ingest.id(), scene.untouched.id()];
    let used = || -> Result<[f64; 2]> {
        let [one, other] = pids.map(cpu_time);
        Ok([one?.as_secs_f64(), other?.as_secs_f64()])
    };
    let before = used()?;
    let answers = politely(|runtime| runtime.block_on(clients(wire, address, path, time)))?;
    let after = used()?;
    let mut seen = Seen::default();
    for end in [NO_ANSWER, "200"] {
        if let Some(n) = answers.get(end) {
            seen.faults.push(format!("{n} times: {end}"));
        }
    }
    let made: u64 = answers
        .iter()
        .filter(|(end, _)| end.as_str() != NOT_MADE)
        .map(|(_, n)| *n)
        .sum();
    // What good traffic costs, the ingest that nobody attacks pays too.
    let extra = (after[0] - before[0]) - (after[1] - before[1]);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let each = extra * 1e3 / made.max(1) as f64;
    seen.figures
        .insert("cpu_ms_each".into(), format!("{each:.2}"));
    if made == 0 {
        seen.faults.push("no connection was made".into());
    } else if each > BOUND_MS {
        seen.faults.push(format!(
            "a connection took {each:.1} ms of processor time, and {BOUND_MS} ms is the bound"
        ));
    }
    seen.answers = answers;
    Ok(seen)
}

/// Requests by their answer.
async fn clients(wire: &Wire, address: SocketAddr, path: &str, time: Duration) -> Result<Ends> {
    let until = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for n in 0..CLIENTS {
        let (wire, path) = (wire.clone().unknown().from(attacker(n)), path.to_owned());
        tasks.spawn(async move {
            let mut ends = Ends::new();
            while Instant::now() < until {
                let end = one(&wire, address, &path).await;
                *ends.entry(end).or_default() += 1;
                sleep(PAUSE).await;
            }
            ends
        });
    }
    let mut ends = Ends::new();
    while let Some(done) = tasks.join_next().await {
        for (end, n) in done? {
            *ends.entry(end).or_default() += n;
        }
    }
    Ok(ends)
}

async fn one(wire: &Wire, address: SocketAddr, path: &str) -> String {
    const PATIENCE: Duration = Duration::from_secs(10);
    let Ok(Ok(mut stream)) = timeout(PATIENCE, wire.connect(address)).await else {
        return NOT_MADE.into();
    };
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let mut came = Vec::new();
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut came).await
    };
    // A server that closes without the last words of TLS has answered before.
    let _ = timeout(PATIENCE, asked).await;
    match came.get(9..12).map(str::from_utf8) {
        Some(Ok(status)) => status.to_owned(),
        _ => NO_ANSWER.into(),
    }
}

/// A client with a certificate of an authority that nobody knows, and many certificates under that one's
/// name, each with a key of its own.
fn stranger(certificate: &Path) -> Result<Wire> {
    let params = |name: &str, serial: u64| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial.into());
        params
    };
    let mut authority = params("nobody", 1);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority.clone(), KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut chain = vec![
        params("a client", 2)
            .signed_by(&key, &issuer)?
            .der()
            .clone(),
    ];
    for n in 0..INTERMEDIATES {
        authority.serial_number = Some((n + 3).into());
        let between = authority.signed_by(&KeyPair::generate()?, &issuer)?;
        chain.push(between.der().clone());
    }
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    Wire::tls_as(certificate, "http/1.1", chain, key)
}
