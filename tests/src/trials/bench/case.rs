//! Which requests a benchmark sends: of a provider or of all in turn, with bodies of a size.

use anyhow::{Context, Result};
use serde::Serialize;
use sluice_schemas::providers::testing::{TestSource, request};
use sluice_schemas::providers::{ALL, Provider};
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, Source, now};

/// All providers in turn.
const MIXED: &str = "mixed";

/// The provider of the points that decide.
const FLOWCODE: &str = "flowcode";

/// About as long as providers' samples are.
const SMALL: usize = 200;

/// The size of the points that decide.
const ORDINARY: usize = 1_000;

/// The least length of bodies, in bytes.
const SIZES: [usize; 4] = [SMALL, ORDINARY, 10_000, 100_000];

/// One kind of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Case {
    pub provider: &'static str,
    pub least_body_bytes: usize,
}

impl Case {
    /// One of the kinds that decide.
    pub const HEADLINE: Self = Self {
        provider: FLOWCODE,
        least_body_bytes: ORDINARY,
    };

    /// Every event type of every provider, samples as they are: 208 bytes on average.
    pub const SMALL_MIXED: Self = Self {
        provider: MIXED,
        least_body_bytes: SMALL,
    };

    /// Sizes of one provider, then the others at one size.
    fn of_all_providers() -> impl Iterator<Item = Self> {
        let sizes = SIZES.into_iter().map(|least_body_bytes| Self {
            provider: FLOWCODE,
            least_body_bytes,
        });
        let others = ALL.iter().map(|provider| provider.spec().name);
        let others = others
            .filter(|name| *name != FLOWCODE)
            .map(|provider| Self {
                provider,
                least_body_bytes: ORDINARY,
            });
        sizes.chain(others)
    }

    /// What ingest is measured with.
    pub fn of_ingest() -> Vec<Self> {
        let mixed = Self {
            provider: MIXED,
            least_body_bytes: ORDINARY,
        };
        Self::of_all_providers().chain([mixed]).collect()
    }

    /// What the processor is measured with.
    pub fn of_processor() -> Vec<Self> {
        Self::of_all_providers()
            .chain([Self::SMALL_MIXED])
            .collect()
    }

    /// As a part of topics' names.
    pub fn label(&self) -> String {
        format!("{}-{}", self.provider, self.least_body_bytes)
    }
}

/// Makes requests of a kind, signed at one moment.
pub struct Maker {
    case: Case,
    at: i64,
    senders: Vec<Sending>,
}

struct Sending {
    source: Source,
    provider: &'static dyn Provider,
    test: TestSource,
}

impl Maker {
    /// For the sources of a site.
    pub fn new(case: Case, site: &Site) -> Result<Self> {
        let sources = site.sources.iter();
        let chosen =
            sources.filter(|source| case.provider == MIXED || case.provider == source.provider);
        let senders = chosen
            .map(|source| {
                let provider = source.provider()?;
                Ok(Sending {
                    source: source.clone(),
                    provider,
                    test: provider.sender().source(&source.name),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            case,
            at: now(),
            senders,
        })
    }

    /// The second at which all is signed.
    pub fn at(&self) -> i64 {
        self.at
    }

    /// The n-th request. Different `n` are different deliveries of different entities.
    pub fn make(&self, n: u64) -> Result<(&Source, Outgoing)> {
        let (place, count) = (usize::try_from(n)?, self.senders.len());
        let sending = self.senders.get(place % count.max(1));
        let Sending {
            source,
            provider,
            test,
        } = sending.context("no source of this provider")?;
        if self.case == Case::SMALL_MIXED {
            let events = source.samples()?;
            let event = events[place / count % events.len()];
            return Ok((source, source.signed(event, n, self.at)?));
        }
        let mut made = request(*provider, test, (n, self.at), self.case.least_body_bytes);
        // A client adds these itself.
        made.headers
            .retain(|(name, _)| name != "host" && name != "content-length");
        let outgoing = Outgoing {
            path: source.path(),
            headers: made.headers,
            body: made.body.into(),
        };
        Ok((source, outgoing))
    }

    /// The mean length of bodies.
    #[expect(clippy::cast_precision_loss, reason = "lengths of some bodies")]
    pub fn body_bytes(&self) -> Result<f64> {
        const LOOKED_AT: u16 = 100;
        let bodies = (0..u64::from(LOOKED_AT)).map(|n| Ok(self.make(n)?.1.body.len()));
        let total = bodies.sum::<Result<usize>>()?;
        Ok(total as f64 / f64::from(LOOKED_AT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_sizes_of_one_provider_and_each_other_provider_at_one() {
        for (cases, mixed) in [(Case::of_ingest(), ORDINARY), (Case::of_processor(), SMALL)] {
            let sizes = cases.iter().filter(|case| case.provider == FLOWCODE);
            let sizes: Vec<usize> = sizes.map(|case| case.least_body_bytes).collect();
            assert_eq!(sizes, SIZES);
            assert!(cases.contains(&Case::HEADLINE));
            for provider in ALL {
                let of = |case: &&Case| case.provider == provider.spec().name;
                assert!(
                    cases
                        .iter()
                        .filter(of)
                        .any(|c| c.least_body_bytes == ORDINARY)
                );
            }
            let last = cases.last().expect("a case");
            assert_eq!((last.provider, last.least_body_bytes), (MIXED, mixed));
        }
    }

    #[test]
    fn bodies_are_as_long_as_is_asked_for_and_providers_take_turns() {
        let site = Site::new("bench-case.", "127.0.0.1:1").expect("a site");
        for case in Case::of_ingest() {
            let maker = Maker::new(case, &site).expect("a maker");
            let bytes = maker.body_bytes().expect("bodies");
            let least = f64::from(u32::try_from(case.least_body_bytes).expect("small"));
            assert!(
                bytes >= least && bytes < least * 1.1 + 60.0,
                "{case:?}: {bytes}"
            );
        }
        let maker = Maker::new(Case::SMALL_MIXED, &site).expect("a maker");
        let (first, _) = maker.make(0).expect("a request");
        let (second, _) = maker.make(1).expect("a request");
        assert_ne!(first.provider, second.provider);
    }
}
