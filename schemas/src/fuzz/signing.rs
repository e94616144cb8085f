//! Sources of providers with a known secret, as targets verify under them.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

use crate::providers::{self, Credentials, Delivery, Verifier};
use crate::raw::{Ack, Headers, RawRequest};
use crate::reason::Reason;
use crate::settings::reader::{Faults, Node};

/// The secret, 24 bytes as the strictest provider asks.
pub const SECRET: &[u8] = b"a-secret-of-24-bytes-or-";

/// When every request was received, in seconds since 1970.
pub const RECEIVED: i64 = 1_641_234_567;

/// One source, under its options.
pub struct Source {
    provider: &'static str,
    verifier: Box<dyn Verifier>,
    /// Without a secret, signatures cannot be looked at.
    pub with_key: bool,
}

impl Source {
    /// `None`: the options have a fault.
    pub fn new(provider: &'static str, options: Value) -> Option<Self> {
        let faults = Faults::default();
        let found = providers::by_name(provider).expect("a provider");
        let verifier = found.verifier(&mut Node::root(options, &faults));
        faults.take().is_empty().then_some(Self {
            provider,
            verifier,
            with_key: true,
        })
    }

    /// What the provider would send over these parts: HMAC-SHA256 by the crate, not by our code.
    pub fn mac(parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("any length is a key");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The scheme under which it is accepted, or why it is not.
    pub fn verify(
        &self,
        headers: &Headers,
        body: &[u8],
        token: bool,
    ) -> Result<Option<&'static str>, Reason> {
        let secret = match self.provider {
            "flowcode" => b"whsec_YS1zZWNyZXQtb2YtMjQtYnl0ZXMtb3It".as_slice(),
            _ => SECRET,
        };
        let key = self.verifier.key(secret).expect("a good secret");
        let request = RawRequest {
            id: Uuid::from_u128(1),
            source: "site".to_owned(),
            provider: self.provider.to_owned(),
            received_at: RECEIVED * 1_000_000,
            method: "POST".to_owned(),
            target: "/v1/hooks/site".to_owned(),
            peer: IpAddr::from([127, 0, 0, 1]),
            token,
            ack: Ack::Broker,
            headers: headers.clone(),
        };
        let credentials = Credentials {
            keys: if self.with_key { vec![key] } else { Vec::new() },
            ..Credentials::default()
        };
        let delivery = Delivery {
            request: &request,
            body,
        };
        let verified = self.verifier.verify(delivery, &credentials);
        verified
            .map(|authentic| authentic.proof.scheme)
            .map_err(|refusal| refusal.reason)
    }
}

/// Whether a request was refused before its signature was found to be good.
pub fn refused_signature(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SignatureMissing
            | Reason::SignatureMalformed
            | Reason::SignatureMismatch
            | Reason::TokenMissing
    )
}
