//! Every default of the settings, and the names and numbers that follow from them.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sluice_schemas::providers::testing::verifier;
use sluice_schemas::providers::{ALL, Spec, Validity};
use sluice_schemas::settings::{
    Begin, Ingest, Kafka, Limits, LogFormat, Membership, OtlpProtocol, PeerFrom, Processor,
    Retention, SchemaRegistry, Secret, Settings, Source, Spool, Telemetry, TlsFiles, Topics,
};

use crate::golden::compare;

/// The smallest file, one for each provider, and those in which a part comes to be that has defaults of
/// its own.
const FILES: [(&str, &str); 11] = [
    (
        "smallest",
        "{sources: {s: {provider: flock, secrets: [f]}}}",
    ),
    (
        "referralloop",
        "{sources: {s: {provider: referralloop, token_sha256: [TOKEN]}}}",
    ),
    (
        "flowcode",
        "{sources: {s: {provider: flowcode, secrets: [f]}}}",
    ),
    (
        "flockler",
        "{sources: {s: {provider: flockler, secrets: [f], options: {webhook_urls: ['http://h/']}}}}",
    ),
    (
        "secrets in time",
        "{sources: {s: {provider: flock, secrets: [f, {name: g}, {name: h, not_before: 2026-03-01T12:00:00Z, \
         not_after: '2026-03-01T12:00:00.250Z', key_id: h-1}]}}}",
    ),
    ("spool", "{ingest: {spool: {dir: /spool}}, SOURCE}"),
    (
        "spool with a short ack_timeout",
        "{ingest: {ack_timeout: 500ms, spool: {dir: /spool}}, SOURCE}",
    ),
    (
        "tls",
        "{ingest: {tls: {cert_file: c, key_file: /k}}, SOURCE}",
    ),
    (
        "proxy protocol",
        "{ingest: {peer: {from: proxy_protocol}}, SOURCE}",
    ),
    (
        "forwarded for",
        "{ingest: {peer: {from: forwarded_for}}, SOURCE}",
    ),
    (
        "registry, windows",
        "{schema_registry: {url: 'http://r/'}, processor: {dedup_window: 1h}, SOURCE}",
    ),
];

const TOKEN: &str = "09905c40d0466f2b386ea4ab0c8751210799a0ccf86582bae3093c9cfb626755";

fn load(yaml: &str) -> Settings {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.yaml");
    let yaml = yaml.replacen('{', "{kafka: {bootstrap_servers: 'localhost:9092'}, ", 1);
    let yaml = yaml.replace("SOURCE}", "sources: {s: {provider: flock, secrets: [f]}}}");
    std::fs::write(&file, yaml.replace("TOKEN", TOKEN)).expect("the settings");
    sluice_service::settings::load(&file).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a duration of the settings")
}

fn shown(settings: &Settings) -> Value {
    let Settings {
        kafka,
        topics,
        schema_registry,
        secrets_dir,
        sources,
        ingest,
        processor,
        telemetry,
        ..
    } = settings;
    let Kafka {
        bootstrap_servers,
        properties,
        secret_properties,
    } = kafka;
    let Telemetry {
        otlp_endpoint,
        otlp_protocol,
        otlp_headers_file,
        otlp_ca_file,
        otlp_timeout,
        trace_ratio,
        log_format,
    } = telemetry;
    let sources: Map<_, _> = sources
        .iter()
        .map(|(name, one)| (name.clone(), source(one)))
        .collect();
    json!({
        "kafka": {
            "bootstrap_servers": bootstrap_servers,
            "properties": properties,
            "secret_properties": secret_properties,
        },
        "topics": topics_shown(topics),
        "schema_registry": schema_registry.as_ref().map(registry),
        "secrets_dir": secrets_dir,
        "sources": sources,
        "ingest": ingest_shown(ingest),
        "processor": processor_shown(processor),
        "telemetry": {
            "otlp_endpoint": otlp_endpoint,
            "otlp_protocol": match otlp_protocol {
                OtlpProtocol::Grpc => "grpc",
                OtlpProtocol::Http => "http",
            },
            "otlp_headers_file": otlp_headers_file,
            "otlp_ca_file": otlp_ca_file,
            "otlp_timeout, ms": ms(*otlp_timeout),
            "trace_ratio": trace_ratio,
            "log_format": match log_format {
                LogFormat::Json => "json",
                LogFormat::Text => "text",
            },
        },
        "(follows)": {
            "largest record of raw": settings.raw_max_message_bytes(),
            "largest record of what is fed from raw": settings.output_max_message_bytes(),
            "longest window, ms": ms(settings.longest_window()),
            "event topics": settings.event_topics(),
            "group": settings.group_id(),
            "transactional id": settings.transactional_id(0).replace(&processor.member, "(host)"),
        },
    })
}

fn topics_shown(topics: &Topics) -> Value {
    let Topics {
        names,
        create,
        partitions,
        key_partitions,
        event_partitions,
        replication,
        retention,
        rejected_bytes,
        dead_letter_bytes,
        duplicates_bytes,
    } = topics;
    let Retention {
        raw,
        events,
        duplicates,
        rejected,
        dead_letter,
    } = retention;
    json!({
        "prefix": names.prefix,
        "create": create,
        "partitions": partitions,
        "key_partitions": key_partitions,
        "event_partitions": event_partitions,
        "replication": replication,
        "retention": {
            "raw": ms(*raw), "events": ms(*events), "duplicates": ms(*duplicates),
            "rejected": ms(*rejected), "dead_letter": ms(*dead_letter),
        },
        "rejected_bytes": rejected_bytes,
        "dead_letter_bytes": dead_letter_bytes,
        "duplicates_bytes": duplicates_bytes,
    })
}

fn registry(registry: &SchemaRegistry) -> Value {
    let SchemaRegistry {
        url,
        register,
        username,
        password_file,
        ca_file,
    } = registry;
    json!({
        "url": url, "register": register, "username": username, "password_file": password_file,
        "ca_file": ca_file,
    })
}

/// What an endpoint makes of its options is seen in the fates alone.
fn source(source: &Source) -> Value {
    let Source {
        name,
        provider,
        options: _,
        verifier: _,
        secrets,
        token_sha256,
        require_headers,
        max_body,
        dedup_window,
        events,
        enabled,
        client_ca_file,
        allow_from,
        rate,
    } = source;
    json!({
        "name": name,
        "provider": provider.spec().name,
        "secrets": secrets.iter().map(secret).collect::<Vec<_>>(),
        "token_sha256": token_sha256.len(),
        "require_headers": require_headers.len(),
        "max_body": max_body,
        "dedup_window": ms(*dedup_window),
        "events": events,
        "enabled": enabled,
        "client_ca_file": client_ca_file,
        "allow_from": allow_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "rate": rate,
    })
}

/// A secret without times is its name.
fn secret(secret: &Secret) -> Value {
    let Secret {
        file,
        key_id,
        validity,
    } = secret;
    if key_id == file && *validity == Validity::default() {
        return json!(file);
    }
    json!({
        "file": file, "key_id": key_id, "not_before, µs": validity.not_before, "not_after, µs": validity.not_after,
    })
}

fn ingest_shown(ingest: &Ingest) -> Value {
    let Ingest {
        listen,
        admin_listen,
        threads,
        ack_timeout,
        header_timeout,
        body_timeout,
        max_buffered,
        spool,
        tls,
        peer,
        limits,
    } = ingest;
    json!({
        "listen": listen,
        "admin_listen": admin_listen,
        "threads": threads,
        "ack_timeout": ms(*ack_timeout),
        "header_timeout": ms(*header_timeout),
        "body_timeout": ms(*body_timeout),
        "max_buffered": max_buffered,
        "spool": spool.as_ref().map(spool_shown),
        "tls": tls.as_ref().map(|TlsFiles { cert_file, key_file }| json!({
            "cert_file": cert_file, "key_file": key_file,
        })),
        "peer": match peer {
            PeerFrom::Connection => json!("connection"),
            PeerFrom::ProxyProtocol => json!("proxy_protocol"),
            PeerFrom::ForwardedFor { depth } => json!({"forwarded_for": depth}),
        },
        "limits": limits_shown(limits),
    })
}

fn spool_shown(spool: &Spool) -> Value {
    let Spool {
        dir,
        max_bytes,
        source_share,
        max_age,
        wait,
        drain_rate,
        drain_older,
    } = spool;
    json!({
        "dir": dir, "max_bytes": max_bytes, "source_share": source_share, "max_age": ms(*max_age), "wait": ms(*wait),
        "drain_rate": drain_rate, "drain_older": drain_older,
    })
}

fn limits_shown(limits: &Limits) -> Value {
    let Limits {
        connections,
        peer_connections,
        peer_bytes,
        header_bytes,
        handshake_timeout,
        first_byte_timeout,
        idle_timeout,
        write_timeout,
        connection_age,
        body_rate,
        source_buffered,
        h2_streams,
    } = limits;
    json!({
        "connections": connections,
        "peer_connections": peer_connections,
        "peer_bytes": peer_bytes,
        "header_bytes": header_bytes,
        "handshake_timeout": ms(*handshake_timeout),
        "first_byte_timeout": ms(*first_byte_timeout),
        "idle_timeout": ms(*idle_timeout),
        "write_timeout": ms(*write_timeout),
        "connection_age": ms(*connection_age),
        "body_rate": body_rate,
        "source_buffered": source_buffered,
        "h2_streams": h2_streams,
    })
}

fn processor_shown(processor: &Processor) -> Value {
    let Processor {
        admin_listen,
        group,
        member,
        membership,
        workers,
        dedup_window,
        dedup_memory,
        begin,
        cloudevents_headers,
    } = processor;
    let variable = std::env::var("SLUICE_MEMBER").ok();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = variable.or(host).unwrap_or_default();
    json!({
        "admin_listen": admin_listen,
        "group": group,
        "member": if *member == host.trim() { "(host)" } else { member },
        "membership": match membership {
            Membership::Dynamic => "dynamic",
            Membership::Static => "static",
        },
        "workers": workers,
        "dedup_window": ms(*dedup_window),
        "dedup_memory": dedup_memory,
        "begin": begin.map(|begin| match begin {
            Begin::Earliest => "earliest",
            Begin::Latest => "latest",
        }),
        "cloudevents_headers": cloudevents_headers,
    })
}

#[test]
fn every_default_is_the_same() {
    let mut all = Map::new();
    for (what, yaml) in FILES {
        all.insert(what.to_owned(), shown(&load(yaml)));
    }
    for provider in ALL {
        let Spec {
            name,
            documented,
            headers: _,
        } = provider.spec();
        let verifier = verifier(provider);
        assert!(verifier.topic_types() == *documented);
        let spec = json!({
            "events": documented, "max_body": verifier.max_body(), "by_sequence": verifier.by_sequence(),
            "retry_horizon": ms(verifier.retry_horizon()),
        });
        all.insert(format!("(facts of {name})"), spec);
    }
    let text = serde_json::to_string_pretty(&all).expect("JSON");
    compare("settings-defaults.json", &(text + "\n"));
}
