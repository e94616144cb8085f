//! Steps against a server that answers as documented, and entries kept in memory.

use std::time::Duration;

use super::super::plan::steps;
use super::*;
use crate::provider_apis::Calling;
use crate::provider_apis::testing::{Fault, KEY, Server};
use sluice_schemas::settings::{Environment, Settings};

/// Entries in memory; a write that fails, by its number.
#[derive(Default)]
struct Kept {
    ledger: Ledger,
    writes: usize,
    fails_at: Option<usize>,
}

impl Keep for Kept {
    fn put(&mut self, key: &Key, entry: Option<&Entry>) -> Result<(), Failure> {
        self.writes += 1;
        if self.fails_at == Some(self.writes) {
            return Err(Failure::TryAgain("the brokers are away".to_owned()));
        }
        let value = entry.map(|entry| serde_json::json!(entry).to_string());
        let value = value.unwrap_or_default();
        assert!(
            !value.contains("hooks.example.com") && !value.contains(KEY),
            "{value}"
        );
        self.ledger
            .take(key.to_string().as_bytes(), value.as_bytes());
        Ok(())
    }
}

/// A provider, settings of one source, and what is kept.
struct World {
    server: Server,
    dir: tempfile::TempDir,
    kept: Kept,
    events: Vec<&'static str>,
    forget: bool,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("key"), KEY).expect("the key");
        let world = Self {
            server: Server::start(),
            dir,
            kept: Kept::default(),
            events: vec!["signup.created", "signup.deleted"],
            forget: false,
        };
        world.moves_to("one");
        world
    }

    /// The source has another URL.
    fn moves_to(&self, token: &str) {
        let url = format!("https://hooks.example.com/v1/hooks/list/{token}\n");
        std::fs::write(self.dir.path().join("url"), url).expect("the URL");
    }

    fn settings(&self) -> Settings {
        let yaml = format!(
            "{{kafka: {{bootstrap_servers: b}}, secrets_dir: '{}', sources: {{list: {{provider: referralloop, \
             token_sha256: ['{}'], options: {{subscribe: {{events: [{}], waitlists: [w], \
             target_url_file: url, api_key_file: key}}}}}}}}}}",
            self.dir.path().display(),
            "0".repeat(64),
            self.events.join(", "),
        );
        let environment = Environment {
            member: Some("m"),
            property_fault: &|_, _| None,
        };
        let file = std::path::Path::new("f");
        Settings::parse(file, yaml.as_bytes(), &environment).expect("good settings")
    }

    /// Runs a sync to its end, as a process of its own would; whether all holds.
    async fn sync(&mut self, again: bool) -> Result<bool, Failure> {
        let settings = self.settings();
        let source = &settings.sources["list"];
        let subscribe = source.verifier.subscribe().expect("it subscribes");
        let target = Target::read(&settings, source, subscribe).expect("a URL");
        let wanted = target.keys("list", subscribe);
        let ledger = std::mem::take(&mut self.kept.ledger);
        for (key, entry) in &ledger.entries {
            self.kept.ledger.entries.insert(key.clone(), entry.clone());
        }
        let steps = steps(&wanted, &ledger, &|_| true, again);
        let calling = Calling {
            api_url: Some(self.server.url.clone()),
            timeout: Duration::from_secs(1),
            patience: Duration::from_secs(20),
            json: false,
        };
        let mut doing = Doing {
            ledger: &ledger,
            targets: &BTreeMap::from([("list".to_owned(), target)]),
            api: &|_| Api::new(&settings, &calling, "key").map(Some),
            keep: &mut self.kept,
            forget: self.forget,
            json: false,
        };
        doing.all(&steps).await
    }

    /// State and id of each entry.
    fn entries(&self) -> Vec<(State, Option<&str>)> {
        let entries = self.kept.ledger.entries.values();
        entries
            .map(|entry| (entry.state, entry.id.as_deref()))
            .collect()
    }

    #[track_caller]
    fn calls(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.server.state().asked);
        assert!(asked.iter().all(|one| one.key == format!("Bearer {KEY}")));
        asked.into_iter().map(|one| one.method).collect()
    }
}

fn refusal() -> Fault {
    Fault::Answer(422, "x-none: 1", "{}".to_owned())
}

#[tokio::test]
async fn what_lacks_is_subscribed_once_and_what_is_not_wanted_is_deleted() {
    let mut world = World::new();
    assert!(world.sync(false).await.expect("it works"));
    let ids = [Some("sub_1"), Some("sub_2")].map(|id| (State::Subscribed, id));
    assert_eq!(world.entries(), ids);
    assert_eq!(world.calls(), ["POST", "POST"]);
    assert!(world.sync(false).await.expect("it works"));
    assert_eq!((world.calls().len(), world.entries()), (0, ids.to_vec()));
    // Asked again, what is there is there.
    assert!(world.sync(true).await.expect("it works"));
    assert_eq!((world.calls().len(), world.entries()), (2, ids.to_vec()));

    // The URL changes: the new ones first, then the old ones go. One of them is gone already.
    world.moves_to("two");
    world
        .server
        .state()
        .subscriptions
        .retain(|_, id| id != "sub_1");
    assert!(world.sync(false).await.expect("it works"));
    assert_eq!(world.calls(), ["POST", "POST", "DELETE", "DELETE"]);
    let left: Vec<String> = world
        .server
        .state()
        .subscriptions
        .values()
        .cloned()
        .collect();
    assert_eq!(left, ["sub_3", "sub_4"]);
    world.events.pop();
    assert!(world.sync(false).await.expect("it works"));
    assert_eq!(world.entries(), [(State::Subscribed, Some("sub_3"))]);
    assert_eq!(world.server.state().subscriptions.len(), 1);
}

#[tokio::test]
async fn what_others_made_is_never_deleted() {
    let mut world = World::new();
    let url = "https://hooks.example.com/v1/hooks/list/one";
    let theirs = ["signup.created", url, "w"].map(str::to_owned);
    world.server.state().says_id = true;
    let state = |world: &World| world.server.state().subscriptions.clone();
    world
        .server
        .state()
        .subscriptions
        .insert(theirs, "sub_theirs".to_owned());
    assert!(world.sync(false).await.expect("it works"));
    let ids = [(State::Others, None), (State::Subscribed, Some("sub_1"))];
    assert_eq!(world.entries(), ids);
    world.events = vec!["signup.deleted"];
    assert!(world.sync(false).await.expect("it works"));
    assert_eq!(world.entries(), ids[1..]);
    assert_eq!(state(&world).len(), 2, "theirs is there");
}

#[tokio::test]
async fn what_an_attempt_before_made_is_ours() {
    for says_id in [true, false] {
        let mut world = World::new();
        world.events.pop();
        world.server.state().says_id = says_id;
        world.server.faults([Fault::Cut(true)]);
        assert!(world.sync(false).await.expect("it works"));
        let id = says_id.then_some("sub_1");
        assert_eq!(world.entries(), [(State::Subscribed, id)]);
        world.events = vec!["signup.deleted"];
        assert_eq!(world.sync(false).await.expect("it works"), says_id);
        let left = world.entries();
        assert_eq!(
            left.len(),
            if says_id { 1 } else { 2 },
            "an unknown id stays known: {left:?}"
        );
        world.forget = true;
        assert!(world.sync(false).await.expect("it works"));
        assert_eq!(world.entries().len(), 1);
    }
}

/// Ended between the call and the record of its answer: the next run knows that it asked.
#[tokio::test]
async fn a_run_that_ends_in_the_middle_is_mended_by_the_next() {
    let mut world = World::new();
    world.server.state().says_id = true;
    // The first entry is written ahead, the second write is of what the provider answered.
    world.kept.fails_at = Some(2);
    let failure = world.sync(false).await.expect_err("the brokers go away");
    let text = format!("{failure:?}");
    assert!(
        text.starts_with("TryAgain(") && text.contains("sub_1"),
        "{text}"
    );
    assert_eq!(world.entries(), [(State::Asked, None)]);
    assert!(world.sync(false).await.expect("it works"));
    let ids = [Some("sub_1"), Some("sub_2")].map(|id| (State::Subscribed, id));
    assert_eq!(world.entries(), ids);
    // Deleted, and not yet forgotten.
    world.events = vec!["signup.created"];
    world.kept.fails_at = Some(world.kept.writes + 1);
    world.sync(false).await.expect_err("the brokers go away");
    assert_eq!(world.entries().len(), 2);
    assert!(world.sync(false).await.expect("it works"));
    assert_eq!(world.entries(), ids[..1]);
}

#[tokio::test]
async fn nothing_is_deleted_where_the_new_one_is_refused() {
    let mut world = World::new();
    assert!(world.sync(false).await.expect("it works"));
    world.moves_to("two");
    world.server.faults([refusal()]);
    assert!(!world.sync(false).await.expect("it ends"));
    assert_eq!(world.server.state().subscriptions.len(), 3);
    assert_eq!(world.entries().len(), 3, "the refused one is not known");
    assert!(world.sync(false).await.expect("it works"));
    assert_eq!(world.server.state().subscriptions.len(), 2);
}
