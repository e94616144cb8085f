//! The verifier of a source as it would be under other options.

use serde_json::{Value, json};
use sluice_schemas::providers::Verifier;
use sluice_schemas::settings::{Faults, Node, Source};

use super::super::cause::Cause;
use super::Guess;

/// A verifier under other options; whether they are good plays no part.
pub fn verifier(source: &Source, changes: &[(&str, Value)]) -> Box<dyn Verifier> {
    let mut options = source.options.clone();
    if options.is_null() {
        options = json!({});
    }
    for (name, value) in changes {
        if let Some(options) = options.as_object_mut() {
            options.insert((*name).to_owned(), value.clone());
        }
    }
    let mut node = Node::root(options, &Faults::default());
    source.provider.verifier(&mut node)
}

/// Each option that says how is signed and is pinned, with each other value; and all of them with their
/// first, the widest.
pub fn readings(source: &Source) -> Vec<Guess<Box<dyn Verifier>>> {
    let options = source.provider.variants().options;
    let of = |name: &str| source.options.get(name).and_then(Value::as_str);
    let mut all = Vec::new();
    for (name, values) in options {
        let now = of(name).or(values.first().copied());
        // The first takes all that is safe: what a narrower one takes more is not to be advised.
        if now == values.first().copied() {
            continue;
        }
        for value in values.iter().filter(|value| Some(**value) != now) {
            let says = format!(
                "the signature fits with options.{name}: {value}, and the source has {}",
                now.unwrap_or("none")
            );
            let verifier = verifier(source, &[(name, json!(value))]);
            all.push(Guess::new(Cause::WrongOptions, says, verifier));
        }
    }
    // The others' names say more than this one, so it is tried last.
    all.sort_by_key(|guess: &Guess<_>| guess.says.contains(": auto, "));
    if options.len() > 1 {
        let widest: Vec<(&str, Value)> = options
            .iter()
            .filter_map(|(name, values)| Some((*name, json!(values.first()?))))
            .collect();
        let names: Vec<&str> = options.iter().map(|(name, _)| *name).collect();
        let says = format!(
            "the signature fits with the defaults of {}",
            names.join(" and ")
        );
        all.push(Guess::new(
            Cause::WrongOptions,
            says,
            verifier(source, &widest),
        ));
    }
    all
}
