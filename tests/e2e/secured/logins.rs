//! One event through both services, by each way to log in.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_tests::harness::cluster::{Listener, PLAIN_USERS};
use sluice_tests::harness::wait::{PATIENCE, wait_for};

use super::endpoint::Endpoint;
use super::{CHANGED, NODE, REFUSED, SERVICES, Secured, one_event, write};

#[test]
fn certificates_are_the_principals_of_mutual_tls() {
    let principals = SERVICES.map(|(name, _)| format!("tls-{name}"));
    let mut secured = Secured::new(
        "secured-tls",
        principals.clone(),
        Listener::MutualTls,
        &json!({}),
    );
    for (principal, (name, _)) in principals.iter().zip(SERVICES) {
        let (certificate, key) = NODE.0.certificate_of(principal).expect("a certificate");
        secured.write(&format!("{name}.crt"), &certificate);
        secured.write(&format!("{name}.key"), &key);
    }
    let dir = secured.site.secret_path("");
    let file = |name: &str| dir.join(name);
    let properties = json!({
        "security.protocol": "SSL",
        "ssl.ca.location": NODE.0.ca().expect("an authority"),
        "ssl.certificate.location": file("SERVICE.crt"),
        "ssl.key.location": file("SERVICE.key"),
    });
    secured.kafka["properties"] = properties;
    secured.grant();
    let [certificate_file, key_file] = ["ingest.crt", "ingest.key"].map(file);
    let mut running = secured.run();
    one_event(&mut running, 1);

    // A key that does not fit its certificate changes nothing; the pair, once it is whole, is used.
    let (certificate, key) = NODE.0.certificate_of(&principals[0]).expect("another");
    write(&key_file, &key);
    let refused = running.ingest.wait_log(REFUSED, PATIENCE);
    refused.expect("a key that does not fit");
    one_event(&mut running, 2);
    write(&certificate_file, &certificate);
    running.ingest.wait_log(CHANGED, PATIENCE).expect("a pair");
    one_event(&mut running, 3);
    running.finish(&[REFUSED]);
}

#[test]
fn passwords_of_plain_come_from_files_and_so_do_the_names() {
    let principals = PLAIN_USERS.map(|(user, _)| user.to_owned());
    let properties = json!({
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "ssl.ca.location": NODE.0.ca().expect("an authority"),
    });
    let mut secured = Secured::new("secured-plain", principals, Listener::Sasl, &properties);
    secured.kafka["secret_properties"] = json!({
        "sasl.username": "SERVICE-username",
        "sasl.password": "SERVICE-password",
    });
    for ((user, password), (name, _)) in PLAIN_USERS.iter().zip(SERVICES) {
        secured.write(&format!("{name}-username"), user);
        secured.write(&format!("{name}-password"), password);
    }
    secured.grant();
    let mut running = secured.run();
    one_event(&mut running, 1);
    running.finish(&[]);
}

/// Tokens are short, so that all clients must get others while they run. The brokers end a login when its
/// token ends.
#[test]
fn tokens_are_got_from_their_endpoint_and_renewed_before_they_end() {
    let endpoint = Endpoint::start(20);
    let principals = SERVICES.map(|(name, _)| format!("oauth-{name}"));
    let properties = json!({
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "oauth-SERVICE",
        "sasl.oauthbearer.scope": "kafka",
        "sasl.oauthbearer.token.endpoint.url": endpoint.url(),
        "ssl.ca.location": NODE.0.ca().expect("an authority"),
    });
    let mut secured = Secured::new("secured-oauth", principals, Listener::Sasl, &properties);
    secured.kafka["secret_properties"] =
        json!({"sasl.oauthbearer.client.secret": "SERVICE-secret"});
    for (name, _) in SERVICES {
        let secret = format!("secret-of-oauth-{name}");
        secured.write(&format!("{name}-secret"), &secret);
    }
    secured.grant();
    let mut running = secured.run();
    one_event(&mut running, 1);
    let issued = endpoint.issued();
    let mut n = 1;
    let first_ends = Instant::now() + Duration::from_secs(25);
    wait_for("another token of each service", PATIENCE, || {
        n += 1;
        one_event(&mut running, n);
        let renewed = endpoint.issued() >= issued + 2;
        Ok((renewed && Instant::now() > first_ends).then_some(()))
    })
    .expect("tokens");
    for service in [&running.ingest, &running.processor] {
        let log = service.log().expect("a log");
        assert!(log.contains("a token for Kafka was issued"), "{log}");
        assert!(!log.contains("secret-of-oauth"), "{log}");
        assert!(!log.contains("eyJhbGciOiJub25lIn0"), "{log}");
    }
    // A client that asks a question once in 15 s may find its login over, which a token of minutes never is.
    running.finish(&["librdkafka"]);
}

#[test]
fn an_endpoint_that_refuses_is_named_with_its_status_and_asked_again() {
    let endpoint = Endpoint::start(3_600);
    let principals = SERVICES.map(|(name, _)| format!("oauth-{name}"));
    let properties = json!({
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "oauth-SERVICE",
        "sasl.oauthbearer.token.endpoint.url": endpoint.url(),
        "ssl.ca.location": NODE.0.ca().expect("an authority"),
    });
    let mut secured = Secured::new("secured-refused", principals, Listener::Sasl, &properties);
    secured.kafka["secret_properties"] =
        json!({"sasl.oauthbearer.client.secret": "SERVICE-secret"});
    for (name, _) in SERVICES {
        secured.write(&format!("{name}-secret"), "wrong");
    }
    secured.grant();
    let mut ingest = secured.start(0);
    let refused = "it answered 401 Unauthorized (invalid_client)";
    ingest.wait_log(refused, PATIENCE).expect("the refusal");
    secured.write("ingest-secret", "secret-of-oauth-ingest");
    ingest.wait_ready().expect("the right secret is read again");
    ingest.stop().expect("an end");
}
