//! What all spans and metrics of a process have in common.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

use crate::{COMMIT, RELEASE};

/// Variables of the environment that a pod gets by the downward API, and their attributes. All others come by
/// `OTEL_RESOURCE_ATTRIBUTES`.
const KUBERNETES: [(&str, &str); 5] = [
    ("K8S_NAMESPACE_NAME", "k8s.namespace.name"),
    ("K8S_POD_NAME", "k8s.pod.name"),
    ("K8S_POD_UID", "k8s.pod.uid"),
    ("K8S_NODE_NAME", "k8s.node.name"),
    ("K8S_CONTAINER_NAME", "k8s.container.name"),
];

/// The resource of this process. `OTEL_RESOURCE_ATTRIBUTES` goes before what is known here, the name of the
/// service apart.
pub fn resource(service: &'static str) -> Resource {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let instance = variable("K8S_POD_UID").unwrap_or_else(|| {
        let host = variable("HOSTNAME").unwrap_or_else(|| "host".to_owned());
        format!("{host}:{}", std::process::id())
    });
    let kubernetes = KUBERNETES
        .iter()
        .filter_map(|(name, attribute)| Some(KeyValue::new(*attribute, variable(name)?)));
    let own = [
        KeyValue::new("service.version", RELEASE),
        KeyValue::new("service.instance.id", instance),
        KeyValue::new("sluice.commit", COMMIT),
    ];
    let given = Resource::builder().build();
    let unset = |attribute: &KeyValue| given.get(&attribute.key).is_none();
    Resource::builder()
        .with_attributes(own.into_iter().chain(kubernetes).filter(unset))
        .with_service_name(service)
        .build()
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    #[test]
    fn a_process_has_a_name_a_version_and_an_instance() {
        let resource = resource("sluice-test");
        let text = |key: &'static str| {
            let value = resource.get(&Key::from_static_str(key));
            value.map(|value| value.to_string()).unwrap_or_default()
        };
        assert_eq!(text("service.name"), "sluice-test");
        assert_eq!(text("service.version"), RELEASE);
        assert!(text("service.instance.id").contains(':') || !text("k8s.pod.uid").is_empty());
    }
}
