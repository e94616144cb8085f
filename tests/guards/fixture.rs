//! A recorded request of a provider's folder, with the source that it came to, as settings.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sluice_schemas::providers::ALL;

/// Where the folders of the providers stand.
const PROVIDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/src/providers");

/// SHA-256 of a token, so that each source may have unsigned requests.
const TOKEN: &str = "09905c40d0466f2b386ea4ab0c8751210799a0ccf86582bae3093c9cfb626755";

/// A request, and what `sources.{provider}` says for it.
pub struct Fixture {
    pub name: String,
    pub provider: &'static str,
    pub source: Value,
    /// Name and content of each file under `secrets_dir`.
    pub files: Vec<(String, String)>,
    pub received_at: i64,
    pub token: bool,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Fixture {
    /// Reads lines of `# setting: value`, the request's head, an empty line and the body.
    fn read(provider: &'static str, path: &Path) -> Self {
        let content = fs::read(path).expect("a fixture");
        let end = content.windows(2).position(|two| two == b"\n\n");
        let end = end.expect("an empty line ends the head");
        let head: String = content[..end].iter().copied().map(char::from).collect();
        let (notes, head): (Vec<&str>, Vec<&str>) =
            head.lines().partition(|line| line.starts_with('#'));
        let mut first = head[0].split(' ').map(str::to_owned);
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let mut fixture = Self {
            name: format!("{provider}/{}", stem.expect("a name")),
            provider,
            source: Value::Null,
            files: Vec::new(),
            received_at: 0,
            token: false,
            method: first.next().expect("a method"),
            target: first.next().expect("a target"),
            headers: head[1..].iter().copied().map(header).collect(),
            body: content[end + 2..].to_vec(),
        };
        fixture.settle(&notes);
        fixture
    }

    fn settle(&mut self, notes: &[&str]) {
        let mut options = Value::Object(Map::new());
        let mut secrets = Vec::new();
        for note in notes {
            let Some((name, value)) = note[1..].trim().split_once(": ") else {
                continue;
            };
            match name {
                "options" => options = serde_json::from_str(value).expect("JSON"),
                "secret" | "file" => {
                    let (file, content) = value.split_once('=').expect("name=content");
                    self.files.push((file.to_owned(), content.to_owned()));
                    if name == "secret" {
                        secrets.push(file.to_owned());
                    }
                }
                "received_at" => self.received_at = value.parse().expect("microseconds"),
                "token" => self.token = value.parse().expect("true or false"),
                "age" | "note" => {}
                _ => panic!("{name} is no setting of a fixture"),
            }
        }
        self.source = json!({
            "provider": self.provider, "secrets": secrets, "token_sha256": [TOKEN], "options": options,
        });
    }
}

fn header(line: &str) -> (String, Vec<u8>) {
    let (name, value) = line.split_once(':').expect("a header");
    let value = value.trim().chars();
    let value = value.map(|c| u8::try_from(c).expect("Latin-1")).collect();
    (name.to_lowercase(), value)
}

/// Every fixture of every provider, in order.
pub fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for provider in ALL.map(|provider| provider.spec().name) {
        let folder = Path::new(PROVIDERS).join(provider).join("fixtures");
        let entries = fs::read_dir(folder).expect("each provider has fixtures");
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "http")
        });
        paths.sort();
        all.extend(paths.iter().map(|path| Fixture::read(provider, path)));
    }
    all
}
