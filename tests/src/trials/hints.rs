//! The command lines with which a developer sends a webhook.

use anyhow::{Context, Result};
use sluice_tests::harness::deployment::Site;
use sluice_tests::harness::process::{Service, find};

/// Copy-and-paste lines for a signed request and for one that a token proves.
pub fn curl(site: &Site) -> Result<String> {
    let flock = site.source("flock")?;
    let waitlist = site.source("referralloop")?;
    let (listen, secret) = (site.listen(), String::from_utf8_lossy(&flock.secret));
    Ok(format!(
        r#"Send your own, signed (change the body as you like):

  BODY='{{"name":"invitee.accepted","entity":"invitee","entityId":"customer_1","data":{{"campaignId":"campaign_1","referrer":{{"id":"customer_2"}},"invitee":{{"id":"customer_1"}}}},"timestamp":'$(date +%s)'}}'
  curl -s http://{listen}{flock} -H 'content-type: application/json' -H "X-Flock-Signature: $(printf %s "$BODY" | openssl dgst -sha256 -hmac '{secret}' -r | cut -d' ' -f1)" -d "$BODY"

or without a signature, to an address that nobody can guess:

  curl -s http://{listen}{waitlist} -H 'content-type: application/json' -d '{{"event_type":"signup.created","waitlist_id":"wl_1","data":{{"id":"su_1","email":"ada@example.com","name":"Ada","position":1,"referral_code":"ADA1","created_at":"2025-01-01T00:00:00Z"}},"timestamp":"2025-01-01T00:00:00Z"}}'

A second time, each is a duplicate. Change a letter of the signature and it is rejected.
"#,
        flock = flock.path(),
        waitlist = waitlist.path(),
    ))
}

/// Copy-and-paste lines for `sluicectl`, with a settings file of its own: those of the services differ.
pub fn sluicectl(site: &Site) -> Result<String> {
    let file = site.dir().join("sluicectl.yaml");
    // JSON is YAML.
    std::fs::write(&file, serde_json::to_vec_pretty(&site.settings)?)?;
    let binary = find("sluicectl")?;
    let folder = binary.parent().context("a folder")?;
    let names: Vec<&str> = site
        .sources
        .iter()
        .map(|source| source.name.as_str())
        .collect();
    Ok(format!(
        "Look and send with sluicectl (sources: {names}):

  export PATH=\"{folder}:$PATH\" SLUICE_CONFIG={file}
  sluicectl check
  sluicectl send my-flock --url http://{listen} --wait
  sluicectl tail
",
        names = names.join(", "),
        folder = folder.display(),
        file = file.display(),
        listen = site.listen(),
    ))
}

/// Where the services report about themselves.
pub fn admin_ports(services: &[&Service]) -> String {
    let ports: Vec<String> = services
        .iter()
        .filter_map(|service| service.admin())
        .map(|admin| format!("http://{admin}/metrics"))
        .collect();
    ports.join(" and ")
}
