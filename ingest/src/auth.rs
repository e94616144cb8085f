//! What a sender needs for a source: tokens, headers, client certificates and an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::{HeaderMap, HeaderName};
use sluice_schemas::identity::sha256;
use sluice_schemas::providers::Verifier;
use sluice_schemas::settings::Source;
use subtle::{Choice, ConstantTimeEq};

use crate::byte_budget::{ByteBudget, LARGEST_HEAD, share_of};
use crate::network::{self, Network};
use crate::peer_rates::PeerRates;
use crate::token_bucket::TokenBucket;

/// A source as ingest knows it.
#[derive(Debug)]
pub struct Route {
    /// The source's name. Shared, for every answer is counted under it.
    pub name: Arc<str>,
    /// The name of its provider.
    pub provider: &'static str,
    /// Gives the key of the raw record.
    pub verifier: Arc<dyn Verifier>,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// Whether a token or headers are required, so that a request that passes has proved something.
    pub guarded: bool,
    /// Whether the URL carries a token, which is not kept.
    pub takes_token: bool,
    /// Headers that are secrets and are not kept.
    pub required: Vec<HeaderName>,
    /// Headers that the provider signs or reads, which are kept byte for byte.
    pub exact: &'static [&'static str],
    /// One permit a byte of requests that this source may hold.
    pub buffers: Arc<ByteBudget>,
    /// The bound on its requests.
    rate: Option<Rate>,
}

/// Whom a source's `rate` counts.
#[derive(Debug)]
enum Rate {
    /// All who pass: they had something to show.
    Source(TokenBucket),
    /// Each peer apart: anybody passes, and a stranger must not use up what is the provider's.
    Peer(Arc<PeerRates>, u32),
}

/// Which authority a client's certificate comes from: SHA-256 of the name of its file.
pub type AuthorityId = [u8; 32];

/// The id of the authority in this file.
pub fn authority_id(file: &Path) -> AuthorityId {
    sha256(file.as_os_str().as_encoded_bytes())
}

/// All sources and what they require. Authentication takes the same work whatever the
/// source and also where there is none, so that a guess learns nothing from the time it takes.
#[derive(Debug)]
pub struct SourceAuth {
    by_name: HashMap<String, (Route, Requirements)>,
    /// For requests that name no source: matches no key.
    decoy: Requirements,
}

/// What one source requires, padded to the source with the most of each.
#[derive(Debug, Clone, Default)]
struct Requirements {
    takes_token: bool,
    authority: Option<AuthorityId>,
    /// Where the peer must be in one of the networks.
    by_address: bool,
    networks: Vec<Network>,
    tokens: Vec<[u8; 32]>,
    /// A header and the hashes of the values that it may have; `None` pads.
    headers: Vec<(Option<HeaderName>, Vec<[u8; 32]>)>,
}

/// The longest value of a required header that can match, in bytes.
const MAX_REQUIRED_VALUE: usize = 4 << 10;

/// Pads the lists of hashes: no known text has this hash.
const PADDING_HASH: [u8; 32] = [0; 32];

impl SourceAuth {
    /// Where there are several sources, one may hold no more than `share` of all bytes. `peers` says
    /// whether peers are distinguished, so that a rate can be each peer's.
    pub fn new<'a>(
        sources: impl Iterator<Item = &'a Source>,
        (max_buffered, share): (usize, f64),
        peers: bool,
    ) -> Self {
        let sources: Vec<&Source> = sources.collect();
        let by_peer = |source: &&Source| source.rate.is_some() && source.is_open();
        let rates = (peers && sources.iter().any(by_peer)).then(Arc::<PeerRates>::default);
        let share = if sources.len() > 1 { share } else { 1.0 };
        let buffered = share_of(max_buffered as u64, share);
        let buffered = usize::try_from(buffered).unwrap_or(usize::MAX);
        let mut by_name: HashMap<String, (Route, Requirements)> = sources
            .into_iter()
            .map(|source| {
                let route = Route::new(source, buffered, rates.as_ref());
                (source.name.clone(), (route, Requirements::new(source)))
            })
            .collect();
        let mut decoy = Requirements::default();
        for (_, requirements) in by_name.values() {
            decoy.pad_to(requirements);
        }
        for (_, requirements) in by_name.values_mut() {
            requirements.pad_to(&decoy);
        }
        Self { by_name, decoy }
    }

    /// What the sources hold of these is charged to them on; one that was away meanwhile begins again, and so
    /// do rates.
    pub fn inherit(&mut self, before: &Self) {
        for (name, (route, _)) in &mut self.by_name {
            if let Some((old, _)) = before.by_name.get(name) {
                old.buffers.resize(route.buffers.size());
                route.buffers = Arc::clone(&old.buffers);
            }
        }
    }

    /// All sources.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.by_name.values().map(|(route, _)| route)
    }

    /// The source of this name, where the request passes. `token` is the segment of the path after the
    /// source's name, its escapes undone, `certified` the authorities that the client's certificate proves,
    /// `peer` the sender's address.
    pub fn authenticate(
        &self,
        source: Option<&str>,
        token: Option<&str>,
        headers: &HeaderMap,
        (certified, peer): (&[AuthorityId], IpAddr),
    ) -> Result<&Route, Option<&Route>> {
        let found = source.and_then(|name| self.by_name.get(name));
        let requirements = found.map_or(&self.decoy, |(_, requirements)| requirements);
        let matches = requirements.matches(token, headers, (certified, peer));
        match found {
            Some((route, _)) if matches => Ok(route),
            Some((route, _)) => Err(Some(route)),
            None => Err(None),
        }
    }
}

impl Route {
    /// `buffered` are the bytes that a source may hold, but one body always fits, with its head.
    fn new(source: &Source, buffered: usize, rates: Option<&Arc<PeerRates>>) -> Self {
        let max_body = usize::try_from(source.max_body).unwrap_or(usize::MAX);
        let now = Instant::now();
        let required: Vec<HeaderName> = source
            .require_headers
            .iter()
            .filter_map(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect();
        Self {
            name: source.name.as_str().into(),
            provider: source.provider.spec().name,
            verifier: Arc::clone(&source.verifier),
            max_body: source.max_body,
            guarded: !source.token_sha256.is_empty() || !source.require_headers.is_empty(),
            takes_token: !source.token_sha256.is_empty(),
            required,
            exact: source.provider.spec().headers,
            buffers: Arc::new(ByteBudget::new(
                buffered.max(max_body.saturating_add(LARGEST_HEAD)),
            )),
            // The burst is one second's requests.
            rate: source.rate.map(|rate| match rates {
                Some(rates) if source.is_open() => Rate::Peer(Arc::clone(rates), rate),
                _ => Rate::Source(TokenBucket::new(rate.into(), rate.into(), now)),
            }),
        }
    }

    /// Whether one more request of this peer may come now.
    pub fn takes_one(&self, peer: IpAddr) -> bool {
        match &self.rate {
            None => true,
            Some(Rate::Source(rate)) => rate.take_one(Instant::now()),
            Some(Rate::Peer(rates, rate)) => {
                rates.take_one(&self.name, peer, *rate, Instant::now())
            }
        }
    }
}

impl Requirements {
    fn new(source: &Source) -> Self {
        let header = |(name, hashes): &(String, Vec<[u8; 32]>)| {
            (HeaderName::from_bytes(name.as_bytes()).ok(), hashes.clone())
        };
        Self {
            takes_token: !source.token_sha256.is_empty(),
            authority: source.client_ca_file.as_deref().map(authority_id),
            by_address: !source.allow_from.is_empty(),
            networks: source.allow_from.iter().map(Network::new).collect(),
            tokens: source.token_sha256.clone(),
            headers: source.require_headers.iter().map(header).collect(),
        }
    }

    fn pad_to(&mut self, other: &Self) {
        let tokens = self.tokens.len().max(other.tokens.len()).max(1);
        self.tokens.resize(tokens, PADDING_HASH);
        let networks = self.networks.len().max(other.networks.len());
        self.networks.resize(networks, Network::NOBODY);
        let headers = self.headers.len().max(other.headers.len());
        self.headers.resize(headers, (None, Vec::new()));
        let all = self.headers.iter().chain(&other.headers);
        let hashes = all.map(|(_, hashes)| hashes.len()).max().unwrap_or(0);
        for (_, known) in &mut self.headers {
            known.resize(hashes, PADDING_HASH);
        }
    }

    fn matches(
        &self,
        token: Option<&str>,
        headers: &HeaderMap,
        (certified, peer): (&[AuthorityId], IpAddr),
    ) -> bool {
        let hash = sha256(token.unwrap_or_default().as_bytes());
        let known = is_one_of(&hash, &self.tokens);
        let mut matches =
            choice(token.is_some() == self.takes_token) & (known | choice(!self.takes_token));
        let vouched = is_one_of(&self.authority.unwrap_or(PADDING_HASH), certified);
        matches &= vouched | choice(self.authority.is_none());
        matches &= network::holds(&self.networks, peer) | choice(!self.by_address);
        for (name, hashes) in &self.headers {
            let mut values = name.iter().flat_map(|name| headers.get_all(name));
            // A header that comes twice does not match: a proxy may have checked the other one.
            let (value, another) = (values.next(), values.next());
            let value = value.map_or(b"".as_slice(), |value| value.as_bytes());
            // The time that a hash takes grows with what the sender chose.
            let is_short = value.len() <= MAX_REQUIRED_VALUE;
            let hash = sha256(if is_short { value } else { b"" });
            let single = choice(is_short) & choice(another.is_none());
            let fitting = is_one_of(&hash, hashes) & single;
            matches &= fitting | choice(name.is_none());
        }
        matches.into()
    }
}

fn choice(condition: bool) -> Choice {
    Choice::from(u8::from(condition))
}

/// Whether a hash is one of these, in the same time for each result.
fn is_one_of(hash: &[u8; 32], known: &[[u8; 32]]) -> Choice {
    let equal = known
        .iter()
        .map(|other| hash.as_slice().ct_eq(other.as_slice()));
    equal.fold(Choice::from(0), |found, equal| found | equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_compares_as_many_hashes() {
        let required = |hashes: &[usize]| {
            let header = |count: &usize| (Some(hyper::header::COOKIE), vec![[1; 32]; *count]);
            let headers = hashes.iter().map(header).collect();
            Requirements {
                headers,
                ..Requirements::default()
            }
        };
        let mut all = [&[][..], &[1], &[3, 1], &[2, 2, 2]].map(required);
        let mut decoy = Requirements::default();
        for one in &all {
            decoy.pad_to(one);
        }
        for one in &mut all {
            one.pad_to(&decoy);
        }
        for one in all.iter().chain([&decoy]) {
            let hashes = one.headers.iter().map(|(_, hashes)| hashes.len());
            assert!(hashes.eq([3; 3]), "{one:?}");
        }
    }
}
