//! What may break a rule: one line each in `exceptions.txt`, `rule path detail count: reason`.
//!
//! The count is how often, or how long, it may be; a line that allows more than there is fails, so that the
//! list only shrinks. `TIDY_SHRINK=1` rewrites it: counts fall, lines go, and none comes.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What breaks a rule: the rule, the file, and what of it.
pub type Place = (String, String, String);

/// How often, or how long.
pub type Found = BTreeMap<Place, usize>;

struct Exception {
    place: Place,
    count: usize,
    reason: String,
}

const HEADER: &str = "\
# What breaks a rule of tests/tidy, and why it may: rule, path, detail, count, reason.
# `TIDY_SHRINK=1 cargo test -p sluice-tests --test tidy` lowers counts and removes lines; it adds none.
";

fn read(list: &str) -> Vec<Exception> {
    let lines = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let line = |line: &str| {
        let (place, reason) = line.split_once(": ")?;
        let [rule, path, detail, count] = place.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let place = (rule.to_owned(), path.to_owned(), detail.to_owned());
        Some(Exception {
            place,
            count: count.parse().ok()?,
            reason: reason.trim().to_owned(),
        })
    };
    let read = lines.map(|text| line(text).unwrap_or_else(|| panic!("no exception: {text}")));
    read.inspect(|exception| {
        assert!(
            !exception.reason.is_empty(),
            "no reason: {:?}",
            exception.place
        );
    })
    .collect()
}

/// Each place that the list does not allow, and each line that allows more than there is.
pub fn faults(list: &str, found: &Found) -> Vec<String> {
    let exceptions = read(list);
    let allowed: BTreeMap<_, _> = exceptions
        .iter()
        .map(|one| (&one.place, one.count))
        .collect();
    let mut faults = Vec::new();
    for (place @ (rule, path, detail), count) in found {
        match allowed.get(place) {
            Some(allowed) if allowed >= count => {}
            Some(allowed) => faults.push(format!(
                "{rule} {path} {detail} {count}: {allowed} are allowed"
            )),
            None => faults.push(format!("{rule} {path} {detail} {count}: is not allowed")),
        }
    }
    for Exception {
        place: place @ (rule, path, detail),
        count,
        ..
    } in &exceptions
    {
        let now = found.get(place).copied().unwrap_or_default();
        if now < *count {
            faults.push(format!(
                "{rule} {path} {detail} {count}: stale, there are {now}; TIDY_SHRINK=1 redraws it"
            ));
        }
    }
    faults
}

/// The list with what is stale removed.
pub fn shrunk(list: &str, found: &Found) -> String {
    let mut text = HEADER.to_owned();
    for Exception {
        place,
        count,
        reason,
    } in read(list)
    {
        let (rule, path, detail) = &place;
        if let Some(now) = found.get(&place) {
            let _ = writeln!(text, "{rule} {path} {detail} {}: {reason}", count.min(*now));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(count: usize) -> Found {
        Found::from([(
            ("lines".to_owned(), "a.rs".to_owned(), "-".to_owned()),
            count,
        )])
    }

    #[test]
    fn the_list_allows_what_it_names_and_only_shrinks() {
        let list = "lines a.rs - 500: a table\n";
        assert_eq!(faults(list, &found(500)), [""; 0]);
        assert_eq!(
            faults(list, &found(501)),
            ["lines a.rs - 501: 500 are allowed"]
        );
        assert_eq!(
            faults("", &found(500)),
            ["lines a.rs - 500: is not allowed"]
        );
        let stale = "lines a.rs - 500: stale, there are 450; TIDY_SHRINK=1 redraws it";
        assert_eq!(faults(list, &found(450)), [stale]);
        assert_eq!(
            shrunk(list, &found(450)),
            format!("{HEADER}lines a.rs - 450: a table\n")
        );
        assert_eq!(shrunk(list, &found(501)), format!("{HEADER}{list}"));
        assert_eq!(shrunk(list, &Found::new()), HEADER);
    }
}
