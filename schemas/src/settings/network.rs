//! Networks in the settings: CIDRs of IPv4 and IPv6.

use ipnet::IpNet;

use super::values::is_set;
use crate::settings::reader::Node;

/// The most networks of one source. All are compared for each request, whatever its source, so that the time
/// of an answer says nothing; providers publish some dozens.
const MAX_NETWORKS: usize = 256;

/// Reads a list of networks; empty where the key is absent.
pub(super) fn networks(node: &mut Node, key: &str) -> Vec<IpNet> {
    if !is_set(node, key) {
        return Vec::new();
    }
    let entries = node
        .peek(key)
        .and_then(serde_json::Value::as_array)
        .map(Vec::len);
    let texts = node.texts(key);
    match entries {
        Some(0) => node.fault(
            key,
            "names no network, so nobody could send: leave it out for any peer",
        ),
        Some(entries) if entries > MAX_NETWORKS => {
            node.fault(key, format!("must have at most {MAX_NETWORKS} networks"));
        }
        _ => {}
    }
    let mut found = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match network(text) {
            Ok(network) => found.push(network),
            Err(message) => node.fault(&format!("{key}[{index}]"), message),
        }
    }
    found
}

/// Nothing is guessed: one bit too many in an address is another network than the one that was meant.
fn network(text: &str) -> Result<IpNet, String> {
    // The text is not reported: it may be anything, a secret in the wrong place too.
    let Some(network) = parse(text) else {
        let message = "must be a network such as 192.0.2.0/24, 192.0.2.7/32 or 2001:db8::/32";
        return Err(message.to_owned());
    };
    if network.trunc() != network {
        let meant = network.trunc();
        return Err(format!(
            "{network} has bits behind its prefix: write {meant}"
        ));
    }
    if let IpNet::V6(mapped) = network
        && mapped.network().to_ipv4_mapped().is_some()
        && mapped.prefix_len() >= 96
    {
        return Err(format!(
            "{network} is a network of IPv4: write it as one, for peers are"
        ));
    }
    Ok(network)
}

/// As strictly as the standard library reads addresses: zeros in front would be octal elsewhere.
fn parse(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| digits)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::reader::Faults;

    fn read(value: &Value) -> (Vec<String>, Vec<String>) {
        let faults = Faults::default();
        let mut node = Node::root(json!({"allow_from": value}), &faults);
        let found = networks(&mut node, "allow_from");
        node.finish();
        let found = found.iter().map(ToString::to_string).collect();
        let faults = faults
            .take()
            .into_iter()
            .map(|fault| fault.message)
            .collect();
        (found, faults)
    }

    #[test]
    fn networks_are_taken_as_they_are_written_or_not_at_all() {
        let good = [
            "192.0.2.0/24",
            "192.0.2.7/32",
            "0.0.0.0/0",
            "2001:db8::/32",
            "::/0",
        ];
        let (found, faults) = read(&json!(good));
        assert_eq!((found, faults.len()), (good.map(str::to_owned).to_vec(), 0));
        assert_eq!(read(&Value::Null), (Vec::new(), Vec::new()));
        for (bad, expected) in [
            (json!(["192.0.2.7"]), "must be a network such as"),
            (json!(["192.0.2.0/33"]), "must be a network such as"),
            (json!(["192.0.2.0/+8"]), "must be a network such as"),
            (json!(["192.0.2/24"]), "must be a network such as"),
            (json!(["010.0.0.0/8"]), "must be a network such as"),
            (json!(["example.com"]), "must be a network such as"),
            (json!([""]), "must be a network such as"),
            (json!(["192.0.2.7/24"]), "write 192.0.2.0/24"),
            (json!(["2001:db8::1/32"]), "write 2001:db8::/32"),
            (json!(["::ffff:192.0.2.0/120"]), "write it as one"),
            (json!([]), "names no network"),
            (json!(vec!["192.0.2.0/24"; 257]), "at most 256"),
            (json!("192.0.2.0/24"), "must be a list of texts"),
            (json!([1]), "must be a list of texts"),
        ] {
            let (_, faults) = read(&bad);
            assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
            assert!(faults[0].contains(expected), "{bad}: {faults:?}");
        }
    }
}
