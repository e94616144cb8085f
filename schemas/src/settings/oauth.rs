//! OAUTHBEARER with client credentials: librdkafka's properties, of which our client gets the token itself.

/// The properties that name the token's endpoint. librdkafka is built without an HTTP client, so it never
/// sees them.
pub const OIDC: [&str; 8] = [
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.token.endpoint.url",
    "https.ca.location",
];

const METHOD: &str = OIDC[0];
const GRANT: &str = OIDC[1];
const ID: &str = OIDC[2];
const SECRET: &str = OIDC[3];
const EXTENSIONS: &str = OIDC[5];
const ENDPOINT: &str = OIDC[6];

/// Properties and their values, or the names of their files.
type Pairs = [(String, String)];

/// What is wrong with them together, each with its path under `kafka`.
pub(super) fn faults(properties: &Pairs, secrets: &Pairs) -> Vec<(String, &'static str)> {
    let value = |name: &str| {
        let mut found = properties.iter().filter(|(other, _)| other == name);
        found.next_back().map(|(_, value)| value.as_str())
    };
    let is_secret = |name: &str| secrets.iter().any(|(other, _)| other == name);
    let has = |name: &str| value(name).is_some() || is_secret(name);
    let mechanism = value("sasl.mechanism").or_else(|| value("sasl.mechanisms"));
    let is_oauth = mechanism == Some("OAUTHBEARER");
    let found = if !is_oauth {
        // A secret that is not used does no harm.
        let unused = OIDC.into_iter().filter(|name| *name != SECRET && has(name));
        unused
            .map(|name| (name, "needs sasl.mechanism: OAUTHBEARER"))
            .collect()
    } else if value(METHOD) != Some("oidc") {
        vec![(
            METHOD,
            "is needed with sasl.mechanism OAUTHBEARER, and must be oidc",
        )]
    } else {
        of_oidc(&value, &has)
    };
    let path = |name: &str| {
        let section = if is_secret(name) || name == SECRET {
            "secret_properties"
        } else {
            "properties"
        };
        format!("{section}.{name}")
    };
    let found = found.into_iter();
    found.map(|(name, message)| (path(name), message)).collect()
}

/// The faults of what belongs together.
fn of_oidc<'v>(
    value: &dyn Fn(&str) -> Option<&'v str>,
    has: &dyn Fn(&str) -> bool,
) -> Vec<(&'static str, &'static str)> {
    const NEEDED: &str = "is needed with sasl.oauthbearer.method oidc";
    const PASSWORD: &str = "is for PLAIN and SCRAM: sasl.mechanism OAUTHBEARER has no use for it";
    let protocol = value("security.protocol").map(str::to_ascii_uppercase);
    let is_sasl = matches!(protocol.as_deref(), Some("SASL_SSL" | "SASL_PLAINTEXT"));
    let grant = value(GRANT);
    let endpoint = value(ENDPOINT);
    [
        (
            !is_sasl,
            "security.protocol",
            "must be SASL_SSL with sasl.mechanism OAUTHBEARER",
        ),
        (has("sasl.username"), "sasl.username", PASSWORD),
        (has("sasl.password"), "sasl.password", PASSWORD),
        (
            grant.is_some_and(|grant| grant != "client_credentials"),
            GRANT,
            "must be client_credentials",
        ),
        (
            has(EXTENSIONS),
            EXTENSIONS,
            "cannot be sent by this client: leave it out, or use another mechanism",
        ),
        (!has(ID), ID, NEEDED),
        (
            !has(SECRET),
            SECRET,
            "is needed with sasl.oauthbearer.method oidc: the name of a file under secrets_dir",
        ),
        (endpoint.is_none(), ENDPOINT, NEEDED),
        (
            endpoint.is_some_and(|url| !is_allowed(url)),
            ENDPOINT,
            "must be an https:// address without a user; http:// is for this host alone",
        ),
    ]
    .into_iter()
    .filter_map(|(is_wrong, name, message)| is_wrong.then_some((name, message)))
    .collect()
}

/// The secret goes there, so it goes encrypted, or stays on this host.
fn is_allowed(url: &str) -> bool {
    let (is_https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return false,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return false;
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    is_https || ["127.0.0.1", "[::1]", "localhost"].contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(properties: &[(&str, &str)], secrets: &[&str]) -> Vec<String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let properties: Vec<_> = properties.iter().map(owned).collect();
        let secrets: Vec<_> = secrets.iter().map(|name| owned(&(name, "f"))).collect();
        let found = faults(&properties, &secrets).into_iter();
        found.map(|(path, _)| path).collect()
    }

    const GOOD: [(&str, &str); 5] = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "OAUTHBEARER"),
        (METHOD, "oidc"),
        (ID, "sluice"),
        (ENDPOINT, "https://login.example/token"),
    ];

    #[test]
    fn each_thing_that_lacks_or_contradicts_is_named_by_its_path() {
        assert_eq!(found(&GOOD, &[SECRET]), [""; 0]);
        assert_eq!(
            found(&GOOD, &[]),
            ["secret_properties.sasl.oauthbearer.client.secret"]
        );
        for (n, path) in [
            (0, "security.protocol"),
            (2, METHOD),
            (3, ID),
            (4, ENDPOINT),
        ] {
            let mut some = GOOD.to_vec();
            some.remove(n);
            assert_eq!(found(&some, &[SECRET]), [format!("properties.{path}")]);
        }
        let mut password = GOOD.to_vec();
        password[1].1 = "SCRAM-SHA-512";
        let paths = found(&password, &[SECRET]);
        assert_eq!(paths.len(), 3, "each of them needs OAUTHBEARER: {paths:?}");
        for (name, value) in [
            ("sasl.username", "u"),
            (GRANT, "password"),
            (EXTENSIONS, "a=b"),
        ] {
            let some = [&GOOD[..], &[(name, value)]].concat();
            assert_eq!(found(&some, &[SECRET]), [format!("properties.{name}")]);
        }
    }

    #[test]
    fn the_secret_goes_encrypted_or_stays_on_the_host() {
        for good in [
            "https://login.example:8443/realms/x?y=z",
            "http://127.0.0.1:8080/token",
            "http://localhost/token",
            "http://[::1]:80",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "http://login.example/token",
            "http://localhost.example/token",
            "http://127.0.0.1@login.example/",
            "https://me:secret@login.example/",
            "https://",
            "file:///etc/token",
            "",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
