//! A cluster as it is secured in the field: listeners that ask who is there, and an authorizer that allows
//! what a rule allows and no more. The harness has a listener of its own, on which it may do anything.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use sluice_schemas::acl::{Acl, Pattern, Resource};

use super::node::Node;
use crate::harness::wire::Authority;

/// Who may log in with a password on the listener for PLAIN.
pub const PLAIN_USERS: [(&str, &str); 2] = [
    ("plain-ingest", "plain-ingest-secret"),
    ("plain-processor", "plain-processor-secret"),
];

/// The longest that a login with a token is good for, in milliseconds.
const REAUTHENTICATE_MS: u32 = 600_000;

/// What nodes of a secured cluster have.
#[derive(Debug)]
pub(super) struct Secured {
    authority: Authority,
    dir: PathBuf,
}

impl Secured {
    /// Makes an authority and the nodes' certificate.
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let authority = Authority::new()?;
        let pair = authority.sign()?;
        std::fs::write(dir.join("ca.pem"), authority.certificate())?;
        std::fs::write(dir.join("node.pem"), pair.key + &pair.certificate)?;
        Ok(Self {
            authority,
            dir: dir.to_owned(),
        })
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate and its key for this principal, PEM each.
    pub(super) fn certificate_of(&self, principal: &str) -> Result<(String, String)> {
        let pair = self.authority.sign_for(principal)?;
        Ok((pair.certificate, pair.key))
    }

    /// What a node's settings have in addition to the listeners' addresses.
    pub(super) fn properties(&self) -> String {
        let (ca, node) = (self.ca(), self.dir.join("node.pem"));
        let (ca, node) = (ca.display(), node.display());
        let module = "org.apache.kafka.common.security";
        let mut users = String::new();
        for (user, password) in PLAIN_USERS {
            let _ = write!(users, " user_{user}=\"{password}\"");
        }
        let mut text = format!(
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS\n\
             listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER\n\
             listener.name.sasl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required{users};\n\
             listener.name.sasl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.sasl.oauthbearer.sasl.jaas.config=\
             {module}.oauthbearer.OAuthBearerLoginModule required;\n\
             listener.name.sasl.oauthbearer.connections.max.reauth.ms={REAUTHENTICATE_MS}\n\
             listener.name.mtls.ssl.client.auth=required\n\
             listener.name.mtls.ssl.truststore.type=PEM\n\
             listener.name.mtls.ssl.truststore.location={ca}\n\
             ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT\n"
        );
        for listener in ["sasl", "mtls"] {
            let _ = writeln!(text, "listener.name.{listener}.ssl.keystore.type=PEM");
            let _ = writeln!(
                text,
                "listener.name.{listener}.ssl.keystore.location={node}"
            );
        }
        text
    }

    /// The listeners of a node, their protocols, by the name of each.
    pub(super) fn listeners(node: &Node) -> Vec<(&'static str, u16, &'static str)> {
        let secured = node.secured.iter();
        secured
            .zip([("SASL", "SASL_SSL"), ("MTLS", "SSL")])
            .map(|(port, (name, protocol))| (name, *port, protocol))
            .collect()
    }
}

/// Changes rules and users. Its process ends with it.
#[derive(Debug)]
pub struct Rules {
    ends: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    process: Child,
}

impl Rules {
    /// Those that this command changes.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let ends = (
            input.context("a pipe")?,
            BufReader::new(output.context("a pipe")?),
        );
        Ok(Self {
            ends: Mutex::new(ends),
            process,
        })
    }

    /// Allows a principal what a rule says.
    pub fn add(&self, principal: &str, rule: &Acl) -> Result<()> {
        self.ask(&line("add", principal, rule))
    }

    /// Takes that back.
    pub fn remove(&self, principal: &str, rule: &Acl) -> Result<()> {
        self.ask(&line("remove", principal, rule))
    }

    /// Gives a user a password for SCRAM-SHA-512.
    pub fn scram(&self, user: &str, password: &str) -> Result<()> {
        self.ask(&format!("scram {user} {password}"))
    }

    fn ask(&self, line: &str) -> Result<()> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(ends.0, "{line}")?;
        ends.0.flush()?;
        let mut answer = String::new();
        ends.1.read_line(&mut answer)?;
        if answer.trim_end() != "ok" {
            bail!("{line}: {answer}");
        }
        Ok(())
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn line(what: &str, principal: &str, rule: &Acl) -> String {
    let (kind, name) = match &rule.resource {
        Resource::Topic(name) => ("TOPIC", name.as_str()),
        Resource::Group(name) => ("GROUP", name.as_str()),
        Resource::TransactionalId(name) => ("TRANSACTIONAL_ID", name.as_str()),
        Resource::Cluster => ("CLUSTER", "kafka-cluster"),
    };
    let pattern = match rule.pattern {
        Pattern::Literal => "LITERAL",
        Pattern::Prefixed => "PREFIXED",
    };
    let operation = rule.operation.name();
    format!("{what} {principal} {kind} {name} {pattern} {operation}")
}
