//! Kafka as it is secured in the field: certificates, passwords and tokens of two principals, exactly the
//! rules that they need, and credentials that change while both services run.

mod rules;

mod operators;

mod suspended;

mod rotation;

mod logins;

mod endpoint;

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};
use sluice_schemas::acl::{Acl, Who, required};
use sluice_schemas::settings::Settings;
use sluice_service::kafka::topics::{Which, ensure};
use sluice_tests::harness::cluster::{Cluster, Listener, Options, Rules};
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::harness::process::Service;

use crate::harness::Running;

/// The source of all these tests: few topics.
const PROVIDER: &str = "flowcode";

/// One node for all of them.
static NODE: LazyLock<(Cluster, Rules)> = LazyLock::new(|| {
    let options = Options {
        nodes: 1,
        secured: true,
        ..Options::default()
    };
    let cluster = Cluster::start_with(&options).expect("Kafka starts");
    let rules = cluster.rules().expect("a process for the rules");
    (cluster, rules)
});

/// What a service logs when it has new clients, and when it keeps the old ones.
const CHANGED: &str = "the credentials for Kafka changed, and new clients use them";
const REFUSED: &str = "the new credentials for Kafka are not in use";

/// The two services, as the settings and the rules name them.
const SERVICES: [(&str, Who); 2] = [("ingest", Who::Ingest), ("processor", Who::Processor)];

/// An installation whose topics are there, and whose services log in as principals of their own.
struct Secured {
    site: Site,
    /// By service: the principal.
    principals: [String; 2],
    /// What both have under `kafka`, but for the names of the files.
    kafka: Value,
    listener: Listener,
}

impl Secured {
    /// With these principals and these properties. Topics are made as the harness.
    fn new(test: &str, principals: [String; 2], listener: Listener, properties: &Value) -> Self {
        let cluster = &NODE.0;
        let mut site = Site::new(&format!("{test}."), &cluster.bootstrap()).expect("a site");
        let source = site.source(PROVIDER).expect("a source").name.clone();
        let own = site.settings["sources"][&source].clone();
        site.set(&["sources"], json!({source: own}));
        let settings = load(&site, "super", &site.settings);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let made = runtime.block_on(ensure(&settings, Which::All));
        made.expect("the harness makes the topics");
        site.set(&["topics", "create"], json!(false));
        Self {
            site,
            principals,
            kafka: json!({"properties": properties, "secret_properties": {}}),
            listener,
        }
    }

    /// A service's number: 0 is ingest, 1 the processor.
    fn settings(&self, service: usize) -> Value {
        let (name, _) = SERVICES[service];
        let mut settings = self.site.settings.clone();
        let text = self.kafka.to_string().replace("SERVICE", name);
        let mut kafka: Value = serde_json::from_str(&text).expect("as it was");
        kafka["bootstrap_servers"] = json!(NODE.0.bootstrap_by(self.listener));
        settings["kafka"] = kafka;
        settings
    }

    /// The rules that a service needs.
    fn rules(&self, service: usize) -> Vec<Acl> {
        let (name, who) = SERVICES[service];
        required(&load(&self.site, name, &self.settings(service)), who)
    }

    /// Allows both what they need, and no more.
    fn grant(&self) {
        for service in [0, 1] {
            for rule in self.rules(service) {
                self.add(service, &rule);
            }
        }
    }

    fn add(&self, service: usize, rule: &Acl) {
        let added = NODE.1.add(&self.principals[service], rule);
        added.expect("a rule");
    }

    fn remove(&self, service: usize, rule: &Acl) {
        let removed = NODE.1.remove(&self.principals[service], rule);
        removed.expect("a rule less");
    }

    /// Starts one of the services, without waiting.
    fn start(&self, service: usize) -> Service {
        let (name, _) = SERVICES[service];
        let settings = self.settings(service);
        let started = self.site.start(&format!("sluice-{name}"), name, &settings);
        started.expect("it starts")
    }

    /// Starts both, and waits until they are ready.
    fn run(self) -> Running {
        let (ingest, processor) = (self.start(0), self.start(1));
        Running::of(self.site, ingest, processor)
    }

    /// Writes a file of a service as the kubelet does: the whole content at once.
    fn write(&self, file: &str, content: &str) {
        write(&self.site.secret_path(file), content);
    }
}

/// Puts a file in the place of the one that is there.
fn write(path: &std::path::Path, content: &str) {
    let next: PathBuf = path.with_extension("next");
    std::fs::write(&next, content).expect("a file");
    std::fs::rename(&next, path).expect("an atomic swap");
}

fn load(site: &Site, name: &str, settings: &Value) -> Settings {
    let file = site.dir().join(format!("read-{name}.yaml"));
    std::fs::write(&file, settings.to_string()).expect("the settings");
    sluice_service::settings::load(&file).expect("good settings")
}

/// Users of their own for a test, with passwords for SCRAM in files.
fn scram(test: &str) -> Secured {
    let principals = SERVICES.map(|(name, _)| format!("{test}-{name}"));
    let ca = NODE.0.ca().expect("an authority");
    let mut secured = Secured::new(
        test,
        principals.clone(),
        Listener::Sasl,
        &json!({
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "ssl.ca.location": ca,
        }),
    );
    secured.kafka["secret_properties"] = json!({
        "sasl.username": "SERVICE-username",
        "sasl.password": "SERVICE-password",
    });
    for (principal, (name, _)) in principals.iter().zip(SERVICES) {
        NODE.1.scram(principal, "first").expect("a user");
        secured.write(&format!("{name}-username"), &format!("{principal}\n"));
        secured.write(&format!("{name}-password"), "first\n");
    }
    secured.grant();
    secured
}

/// The source, and an event of it that has a topic of its own.
fn source(running: &Running) -> (Source, &'static str) {
    let source = running.source(PROVIDER);
    let event = source.samples().expect("samples")[0];
    (source, event)
}

/// One event through both services.
#[track_caller]
fn one_event(running: &mut Running, n: u64) {
    let (source, event) = source(running);
    let request = source.signed(event, n, now()).expect("a request");
    let id = running.accept(&request);
    let topic = source.topic(&running.names(), event).expect("known");
    assert_eq!(running.outcome(&id).topic, topic);
}
