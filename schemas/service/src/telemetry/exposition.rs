//! Reads the text of `/metrics` back into families, so that what is exported elsewhere is what is scraped.

/// A family of metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Family {
    /// The name, with its unit and without `_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// `seconds`, `bytes` or nothing.
    pub unit: String,
    /// One sentence.
    pub help: String,
    /// Its samples in their order.
    pub samples: Vec<Sample>,
}

/// Names and values in their order.
pub type Labels = Vec<(String, String)>;

/// A sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// What stands behind the family's name: `_total`, `_bucket`, `_sum`, `_count` or nothing.
    pub suffix: String,
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// Reads an exposition of `OpenMetrics`, as the registry writes it. Exemplars are passed over.
pub fn read(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(what), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let rest = words.next().unwrap_or_default().to_owned();
            if families.last().is_none_or(|family| family.name != name) {
                families.push(Family {
                    name: name.to_owned(),
                    ..Family::default()
                });
            }
            if let Some(family) = families.last_mut() {
                match what {
                    "TYPE" => family.kind = rest,
                    "UNIT" => family.unit = rest,
                    "HELP" => family.help = rest,
                    _ => {}
                }
            }
        } else if let (Some(family), Some(sample)) = (families.last_mut(), sample(line))
            && let Some(suffix) = sample.0.strip_prefix(&family.name)
        {
            family.samples.push(Sample {
                suffix: suffix.to_owned(),
                labels: sample.1,
                value: sample.2,
            });
        }
    }
    families
}

/// The name, the labels and the value of a line that is no comment.
pub fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (name, rest) = match line.find(['{', ' ']) {
        Some(at) => line.split_at(at),
        None => return None,
    };
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.trim_start().split(' ').next()?;
    Some((name, labels, value.parse().ok()?))
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, value) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    escaped => text.push(escaped),
                },
                (_, other) => text.push(other),
            }
        };
        labels.push((name.trim_start_matches(',').to_owned(), text));
        rest = value.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_seconds Time, in all.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
        a_seconds_sum{source=\"x\"} 1.5\na_seconds_count{source=\"x\"} 2\n\
        a_seconds_bucket{le=\"0.5\",source=\"x\"} 1 # {trace_id=\"ab\"} 0.25\n\
        a_seconds_bucket{le=\"+Inf\",source=\"x\"} 2\n\
        # HELP b B.\n# TYPE b counter\nb_total 7\nb_total{x=\"a\\\"},\\n\\\\\",y=\"\"} 8\n# EOF\n";

    #[test]
    fn an_exposition_is_read_back() {
        let families = read(TEXT);
        let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(&names[..2], ["a_seconds", "b"]);
        let [a, b] = &families[..2] else {
            panic!("two families");
        };
        assert_eq!((a.kind.as_str(), a.unit.as_str()), ("histogram", "seconds"));
        assert_eq!(a.help, "Time, in all.");
        let samples: Vec<(&str, f64)> = a
            .samples
            .iter()
            .map(|sample| (sample.suffix.as_str(), sample.value))
            .collect();
        let expected = [
            ("_sum", 1.5),
            ("_count", 2.0),
            ("_bucket", 1.0),
            ("_bucket", 2.0),
        ];
        assert_eq!(samples, expected);
        assert_eq!(b.samples[0].labels, []);
        let labels = [("x", "a\"},\n\\"), ("y", "")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(b.samples[1].labels, labels);
    }
}
