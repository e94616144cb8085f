//! Walks every provider's fixtures: each request becomes what stands beside it, and is also tried
//! tampered, late, early, under another secret and while a secret rotates.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::signature::Key;
use super::{ALL, Authentic, Credentials, Delivery, Endpoint, Payload, Provider, Signing};
use crate::config::{Faults, Node};
use crate::event::{Authenticity, Fields};
use crate::fate::Fate;
use crate::identity::{event_id, fingerprint};
use crate::raw::{Ack, Headers, RawRequest};
use crate::reason::{Reason, Refusal};

/// Headers of a request that no provider signs or reads.
const UNSIGNED: [&str; 4] = ["host", "accept", "content-type", "user-agent"];

/// A request as it was recorded, and the source that it came to.
pub struct Fixture {
    provider: &'static dyn Provider,
    path: PathBuf,
    pub endpoint: Box<dyn Endpoint>,
    pub credentials: Credentials,
    pub request: RawRequest,
    pub body: Vec<u8>,
    /// Within how much of the request's own time it must be received; `None`: age is not judged.
    age: Option<Duration>,
}

impl Fixture {
    /// Reads a file: lines of `# setting: value`, the request's head, an empty line, the body to the
    /// end of the file.
    fn read(provider: &'static dyn Provider, path: &Path) -> Self {
        let content = fs::read(path).expect("a fixture");
        let end = content.windows(2).position(|two| two == b"\n\n");
        let end = end.expect("an empty line ends the head");
        let head: String = content[..end].iter().copied().map(char::from).collect();
        let (settings, head): (Vec<&str>, Vec<&str>) =
            head.lines().partition(|line| line.starts_with('#'));
        let mut lines = head.into_iter();
        let mut first = lines.next().expect("a request line").split(' ');
        let mut fixture = Self {
            provider,
            path: path.to_owned(),
            endpoint: endpoint(provider, json!({})),
            credentials: Credentials::default(),
            request: request(provider.facts().name),
            body: content[end + 2..].to_vec(),
            age: None,
        };
        fixture.request.method = first.next().expect("a method").to_owned();
        fixture.request.target = first.next().expect("a target").to_owned();
        for line in lines {
            let (name, value) = line.split_once(':').expect("a header");
            let value = value.trim().chars().map(|c| u8::try_from(c).expect("Latin-1"));
            fixture.request.headers.0.push((name.to_lowercase(), value.collect()));
        }
        let setting = |line: &&str| line[1..].trim().split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned()));
        for (name, value) in settings.iter().filter_map(setting) {
            fixture.set(&name, &value);
        }
        fixture
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "options" => {
                let options = serde_json::from_str(value).expect("options are JSON");
                self.endpoint = endpoint(self.provider, options);
            }
            "secret" => {
                let (name, content) = value.split_once('=').expect("name=content");
                let key = key(self.endpoint.as_ref(), name, content.as_bytes());
                self.credentials.keys.push(key);
            }
            "file" => {
                let (name, content) = value.split_once('=').expect("name=content");
                assert_eq!(self.endpoint.check_file(content.as_bytes()), Ok(()));
                let content = content.as_bytes().to_vec();
                self.credentials.files.insert(name.to_owned(), content);
            }
            "received_at" => self.request.received_at = value.parse().expect("microseconds"),
            "token" => self.request.token = value.parse().expect("true or false"),
            "age" => self.age = Some(Duration::from_secs(value.parse().expect("seconds"))),
            "note" => {}
            _ => panic!("{name} is no setting of a fixture"),
        }
    }

    fn verify(&self) -> Result<Authentic<'_>, Refusal> {
        let delivery = Delivery { request: &self.request, body: &self.body };
        self.endpoint.verify(delivery, &self.credentials)
    }

    fn reason(&self) -> Option<Reason> {
        self.verify().err().map(|refusal| refusal.reason)
    }

    /// What becomes of it, as it stands in the file beside it.
    fn outcome(&self) -> Value {
        let key = super::partition_key(self.provider, &self.request.headers, &self.body);
        let key = String::from_utf8(key).unwrap_or_else(|error| hex(error.as_bytes()));
        match self.verify() {
            Ok(Authentic { proof, payload }) => json!({
                "partition_key": key,
                "identity": self.identity(payload.as_ref()),
                "sequence": payload.identity().sequence.map(|sequence| json!({
                    "entity": String::from_utf8_lossy(&sequence.entity),
                    "mac": hex(&sequence.mac),
                })),
                "proof": {
                    "authenticity": proof.authenticity.name(),
                    "scheme": proof.scheme,
                    "key_id": proof.key_id,
                },
                "fields": columns(payload.fields()),
            }),
            Err(Refusal { reason, detail }) => json!({
                "partition_key": key,
                "fate": reason.fate().name(),
                "reason": reason.name(),
                "detail": detail,
            }),
        }
    }

    fn identity(&self, payload: &dyn Payload) -> String {
        let identity = payload.identity();
        let parts = identity.parts.iter().map(Vec::as_slice);
        event_id(&fingerprint(&self.request.source, parts)).to_string()
    }

    fn with_keys<T>(&mut self, keys: Vec<Key>, look: impl FnOnce(&Self) -> T) -> T {
        let kept = std::mem::replace(&mut self.credentials.keys, keys);
        let seen = look(self);
        self.credentials.keys = kept;
        seen
    }

    fn received<T>(&mut self, at: i64, look: impl FnOnce(&Self) -> T) -> T {
        let kept = std::mem::replace(&mut self.request.received_at, at);
        let seen = look(self);
        self.request.received_at = kept;
        seen
    }
}

/// A source of a provider under some options, which must be good.
pub fn endpoint(provider: &dyn Provider, options: Value) -> Box<dyn Endpoint> {
    let faults = Faults::default();
    let mut node = Node::root(options, &faults);
    let endpoint = provider.endpoint(&mut node);
    node.finish();
    let found = faults.take();
    // Without options Flockler has no URL; its fixtures set some.
    let is_default = |path: &str| path == "webhook_urls";
    assert!(found.iter().all(|fault| is_default(&fault.path)), "{found:?}");
    endpoint
}

/// A secret of this name.
pub fn key(endpoint: &dyn Endpoint, name: &str, content: &[u8]) -> Key {
    let mut key = endpoint.key(content).expect("a secret");
    name.clone_into(&mut key.name);
    key
}

/// A request without headers, for a source named like its provider.
pub fn request(provider: &str) -> RawRequest {
    RawRequest {
        id: Uuid::from_u128(0x0193_5b7a_0000_7000_8000_0000_0000_0001),
        source: provider.to_owned(),
        provider: provider.to_owned(),
        received_at: 0,
        method: "POST".to_owned(),
        target: "/".to_owned(),
        peer: IpAddr::from([127, 0, 0, 1]),
        token: false,
        ack: Ack::Broker,
        headers: Headers::default(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The columns that are filled.
fn columns(fields: Fields) -> Value {
    let all = json!({
        "type": fields.r#type, "occurred_at": fields.occurred_at,
        "entity_type": fields.entity_type, "entity_id": fields.entity_id,
        "scope_type": fields.scope_type, "scope_id": fields.scope_id,
        "organization_id": fields.organization_id, "application_id": fields.application_id,
        "environment": fields.environment, "person_id": fields.person_id,
        "person_email": fields.person_email, "person_name": fields.person_name,
        "referrer_id": fields.referrer_id, "invitee_id": fields.invitee_id,
        "referral_code": fields.referral_code, "referrer_reward_id": fields.referrer_reward_id,
        "invitee_reward_id": fields.invitee_reward_id, "position": fields.position,
        "previous_position": fields.previous_position, "title": fields.title, "url": fields.url,
        "author": fields.author, "content_type": fields.content_type,
        "section_id": fields.section_id, "tags": fields.tags,
        "published_at": fields.published_at, "delivery_id": fields.delivery_id,
    });
    let Value::Object(all) = all else {
        unreachable!("an object was written above")
    };
    let filled: Map<_, _> = all.into_iter().filter(|(_, value)| !value.is_null()).collect();
    Value::Object(filled)
}

fn folder(provider: &str) -> PathBuf {
    let providers = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/providers");
    providers.join(provider)
}

/// Every fixture of every provider, in order.
pub fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for provider in ALL {
        let folder = folder(provider.facts().name).join("fixtures");
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .expect("each provider has fixtures")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "http"))
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} has fixtures", provider.facts().name);
        all.extend(paths.iter().map(|path| Fixture::read(provider, path)));
    }
    all
}

#[test]
fn the_folders_on_disk_are_the_registry() {
    let entries = fs::read_dir(folder("")).expect("this folder");
    let mut folders: Vec<String> = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .collect();
    folders.sort();
    let mut names: Vec<&str> = ALL.iter().map(|provider| provider.facts().name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
    for name in names {
        for file in ["mod.rs", "signature.rs", "payload.rs", "normalize.rs", "README.md"] {
            assert!(folder(name).join(file).is_file(), "{name}/{file}");
        }
        assert!(super::by_name(name).is_some());
    }
}

#[test]
fn every_fixture_becomes_what_stands_beside_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for fixture in fixtures() {
        let golden = fixture.path.with_extension("event.json");
        let outcome = fixture.outcome();
        if update {
            let text = serde_json::to_string_pretty(&outcome).expect("JSON");
            fs::write(&golden, text + "\n").expect("the golden file");
            continue;
        }
        let text = fs::read_to_string(&golden).unwrap_or_else(|_| panic!("{}", golden.display()));
        let expected: Value = serde_json::from_str(&text).expect("a golden file is JSON");
        assert_eq!(outcome, expected, "{}", fixture.path.display());
    }
}

#[test]
fn every_documented_event_has_a_fixture() {
    let mut types: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for fixture in fixtures() {
        if let Ok(authentic) = fixture.verify() {
            let name = fixture.provider.facts().name;
            types.entry(name).or_default().push(authentic.payload.fields().r#type);
        }
    }
    for provider in ALL {
        let facts = provider.facts();
        for event in facts.events {
            assert!(types[facts.name].iter().any(|found| found == event), "{event}");
        }
    }
}

#[test]
fn a_signed_fixture_that_is_tampered_with_is_rejected() {
    for mut fixture in fixtures() {
        let Ok(proof) = fixture.verify().map(|authentic| authentic.proof) else {
            continue;
        };
        if proof.scheme.is_none() {
            continue;
        }
        let path = fixture.path.clone();
        for at in 0..fixture.body.len() {
            // This bit never makes a capital of a small letter, which Flockler would not tell apart.
            fixture.body[at] ^= 2;
            match fixture.verify() {
                Ok(authentic) => {
                    assert_eq!(proof.authenticity, Authenticity::PartiallySigned, "{}", path.display());
                    assert_eq!(authentic.proof.authenticity, Authenticity::PartiallySigned);
                }
                Err(refusal) if proof.authenticity == Authenticity::Signed => {
                    assert_eq!(refusal.reason, Reason::SignatureMismatch, "{} at {at}", path.display());
                }
                Err(_) => {}
            }
            fixture.body[at] ^= 2;
        }
        for at in 0..fixture.request.headers.0.len() {
            let kept = fixture.request.headers.0[at].clone();
            if UNSIGNED.contains(&kept.0.as_str()) {
                continue;
            }
            // The last byte of each word, for each may be a signature.
            let value = &mut fixture.request.headers.0[at].1;
            for end in 0..value.len() {
                if value.get(end + 1).is_none_or(|next| *next == b' ') {
                    value[end] ^= 2;
                }
            }
            let reason = fixture.reason().unwrap_or_else(|| panic!("{}: {}", path.display(), kept.0));
            assert_eq!(reason.fate(), Fate::Rejected, "{}: {}", path.display(), kept.0);
            fixture.request.headers.0[at] = kept;
        }
    }
}

#[test]
fn age_is_judged_at_its_bound_and_against_the_receipt() {
    for mut fixture in fixtures() {
        if fixture.verify().is_err() {
            continue;
        }
        let (path, outcome) = (fixture.path.clone(), fixture.outcome());
        let at = fixture.request.received_at;
        let micros = |age: Duration| i64::try_from(age.as_micros()).expect("some minutes");
        // Where age is not judged, a century changes nothing.
        let century = Duration::from_secs(100 * 365 * 86_400);
        let bound = micros(fixture.age.unwrap_or(century));
        for at in [at - bound, at + bound] {
            assert_eq!(fixture.received(at, Fixture::outcome), outcome, "{}", path.display());
        }
        if fixture.age.is_some() {
            for at in [at - bound - 1, at + bound + 1, i64::MIN, i64::MAX] {
                let reason = fixture.received(at, Fixture::reason);
                assert_eq!(reason, Some(Reason::TimestampStale), "{} at {at}", path.display());
            }
        }
    }
}

#[test]
fn another_secret_is_a_mismatch_and_a_rotation_is_none() {
    for mut fixture in fixtures() {
        let path = fixture.path.display().to_string();
        let is_hmac = fixture.credentials.keys.first().is_some_and(Key::is_hmac);
        let other = || {
            let mut key = if is_hmac { Key::hmac(b"another secret") } else { Key::ed25519([7; 32]) };
            "other".clone_into(&mut key.name);
            vec![key]
        };
        let own = fixture.credentials.keys.clone();
        match fixture.verify().map(|authentic| authentic.proof) {
            Ok(proof) if proof.scheme.is_some() => {
                let reason = fixture.with_keys(other(), Fixture::reason);
                assert_eq!(reason, Some(Reason::SignatureMismatch), "{path}");
                let outcome = fixture.outcome();
                for keys in [[other(), own.clone()].concat(), [own, other()].concat()] {
                    assert_eq!(fixture.with_keys(keys, Fixture::outcome), outcome, "{path}");
                }
            }
            Ok(_) => {
                let outcome = fixture.outcome();
                assert_eq!(fixture.with_keys(Vec::new(), Fixture::outcome), outcome, "{path}");
            }
            // Nothing is a dead letter that is not authentic.
            Err(refusal) if refusal.reason.fate() == Fate::DeadLetter => {
                if fixture.endpoint.signing() == Signing::Required {
                    let reason = fixture.with_keys(other(), Fixture::reason);
                    assert_eq!(reason, Some(Reason::SignatureMismatch), "{path}");
                }
            }
            Err(_) => {}
        }
    }
}

#[test]
fn only_a_provider_by_sequence_tells_a_sequence() {
    for mut fixture in fixtures() {
        let Ok(first) = fixture.verify().map(|authentic| authentic.payload.identity()) else {
            continue;
        };
        let by_sequence = fixture.provider.facts().by_sequence;
        assert_eq!(first.sequence.is_some(), by_sequence, "{}", fixture.path.display());
        // Sent again: a new request, with the same content.
        fixture.request.id = Uuid::from_u128(2);
        fixture.request.received_at += 1_000_000;
        let again = fixture.verify().map(|authentic| authentic.payload.identity());
        let again = again.expect("a second later it is as good");
        assert_eq!(again.sequence, first.sequence, "{}", fixture.path.display());
        assert_eq!(again.parts == first.parts, !by_sequence, "{}", fixture.path.display());
    }
}
