//! A fixture: a request as it was recorded, and the source that it came to. For tests.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ALL;
use super::api::{Authentic, Credentials, Delivery, Payload, Provider, Verifier};
use super::signature::Key;
use crate::event::Fields;
use crate::identity::{event_id, fingerprint};
use crate::raw::{Ack, Headers, RawRequest};
use crate::reason::{Reason, Refusal};
use crate::settings::reader::{Faults, Node};

/// A request as it was recorded, and the source that it came to.
pub struct Fixture {
    pub provider: &'static dyn Provider,
    pub path: PathBuf,
    pub verifier: Box<dyn Verifier>,
    pub credentials: Credentials,
    pub request: RawRequest,
    pub body: Vec<u8>,
    /// Within how much of the request's own time it must be received; `None`: age is not judged.
    pub age: Option<Duration>,
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
            verifier: verifier(provider, json!({})),
            credentials: Credentials::default(),
            request: request(provider.spec().name),
            body: content[end + 2..].to_vec(),
            age: None,
        };
        fixture.request.method = first.next().expect("a method").to_owned();
        fixture.request.target = first.next().expect("a target").to_owned();
        for line in lines {
            let (name, value) = line.split_once(':').expect("a header");
            let value = value
                .trim()
                .chars()
                .map(|c| u8::try_from(c).expect("Latin-1"));
            fixture
                .request
                .headers
                .0
                .push((name.to_lowercase(), value.collect()));
        }
        let setting = |line: &&str| {
            line[1..]
                .trim()
                .split_once(": ")
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        for (name, value) in settings.iter().filter_map(setting) {
            fixture.set(&name, &value);
        }
        fixture
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "options" => {
                let options = serde_json::from_str(value).expect("options are JSON");
                self.verifier = verifier(self.provider, options);
            }
            "secret" => {
                let (name, content) = value.split_once('=').expect("name=content");
                let key = key(self.verifier.as_ref(), name, content.as_bytes());
                self.credentials.keys.push(key);
            }
            "file" => {
                let (name, content) = value.split_once('=').expect("name=content");
                assert_eq!(self.verifier.check_file(content.as_bytes()), Ok(()));
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

    /// Whether this is the case of the number that its file's name begins with.
    pub fn is(&self, provider: &str, case: &str) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        self.provider.spec().name == provider && name.is_some_and(|name| name.starts_with(case))
    }

    /// What the source makes of it.
    pub fn verify(&self) -> Result<Authentic<'_>, Refusal> {
        let delivery = Delivery {
            request: &self.request,
            body: &self.body,
        };
        self.verifier.verify(delivery, &self.credentials)
    }

    /// Why it is no event; `None`: it is one.
    pub fn reason(&self) -> Option<Reason> {
        self.verify().err().map(|refusal| refusal.reason)
    }

    /// What becomes of it, as it stands in the file next to it.
    pub fn outcome(&self) -> Value {
        let key = super::partition_key(self.verifier.as_ref(), &self.request.headers, &self.body);
        let key = String::from_utf8(key).unwrap_or_else(|error| hex::encode(error.as_bytes()));
        match self.verify() {
            Ok(Authentic { proof, payload }) => json!({
                "partition_key": key,
                "identity": self.identity(payload.as_ref()),
                "sequence": payload.identity().sequence.map(|sequence| json!({
                    "entity": String::from_utf8_lossy(&sequence.entity),
                    "mac": hex::encode(sequence.mac),
                })),
                "proof": {
                    "authenticity": proof.authenticity.name(),
                    "scheme": proof.scheme,
                    "key_id": proof.key_id,
                },
                "fields": columns(&payload.fields()),
            }),
            Err(Refusal { reason, detail }) => json!({
                "partition_key": key,
                "fate": reason.fate().name(),
                "reason": reason.name(),
                "detail": detail,
            }),
        }
    }

    /// The id of the event that it becomes.
    pub fn mark(&self) -> String {
        let authentic = self.verify().expect("an event");
        self.identity(authentic.payload.as_ref())
    }

    fn identity(&self, payload: &dyn Payload) -> String {
        let identity = payload.identity();
        let parts = identity.parts.iter().map(Vec::as_slice);
        event_id(&fingerprint(&self.request.source, parts)).to_string()
    }

    /// Looks at it under other secrets.
    pub fn with_keys<T>(&mut self, keys: Vec<Key>, look: impl FnOnce(&Self) -> T) -> T {
        let kept = std::mem::replace(&mut self.credentials.keys, keys);
        let seen = look(self);
        self.credentials.keys = kept;
        seen
    }

    /// Looks at it as received at another time, in microseconds since 1970.
    pub fn received<T>(&mut self, at: i64, look: impl FnOnce(&Self) -> T) -> T {
        let kept = std::mem::replace(&mut self.request.received_at, at);
        let seen = look(self);
        self.request.received_at = kept;
        seen
    }
}

/// A source of a provider under some options, which must be good.
pub fn verifier(provider: &dyn Provider, options: Value) -> Box<dyn Verifier> {
    let faults = Faults::default();
    let mut node = Node::root(options, &faults);
    let verifier = provider.verifier(&mut node);
    node.finish();
    let found = faults.take();
    // Without options Flockler has no URL; its fixtures set some.
    let is_default = |path: &str| path == "webhook_urls";
    assert!(
        found.iter().all(|fault| is_default(&fault.path)),
        "{found:?}"
    );
    verifier
}

/// A secret of this name.
pub fn key(verifier: &dyn Verifier, name: &str, content: &[u8]) -> Key {
    let mut key = verifier.key(content).expect("a secret");
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

/// The columns that are filled.
fn columns(fields: &Fields) -> Value {
    let mut all = serde_json::to_value(fields).expect("columns are JSON");
    if let Some(columns) = all.as_object_mut() {
        columns.retain(|_, value| !value.is_null());
    }
    all
}

/// A provider's folder.
pub fn folder(provider: &str) -> PathBuf {
    let providers = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/providers");
    providers.join(provider)
}

/// Every fixture of every provider, in order.
pub fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for provider in ALL {
        let folder = folder(provider.spec().name).join("fixtures");
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .expect("each provider has fixtures")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "http")
            })
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} has fixtures", provider.spec().name);
        all.extend(paths.iter().map(|path| Fixture::read(provider, path)));
    }
    all
}
