//! The position of a partition, and where judging begins, from the offset, the log's end and raw's bounds.
//! Pure.

use sluice_schemas::settings::{Begin, Settings, Topics};

/// What is known of a partition's position before a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The group's committed offset.
    pub committed: Option<i64>,
    /// Raw's first and next stable offset.
    pub raw: (i64, i64),
    /// `to` of the dedup-log's last record.
    pub log_to: Option<i64>,
}

/// A fate older than this may be gone by its topic's retention, and is not looked for. A tenth less than the
/// settings say, for clocks differ.
pub fn shortest_retention_ms(settings: &Settings) -> i64 {
    let kept = &settings.topics.retention;
    let fates = [
        kept.events,
        kept.duplicates,
        kept.rejected,
        kept.dead_letter,
    ];
    let shortest = fates.into_iter().min().unwrap_or_default();
    i64::try_from(shortest.as_millis() / 10 * 9).unwrap_or(i64::MAX)
}

/// Where to begin, or why operator action is required.
///
/// Without a committed offset the dedup-log's last word counts, for it was written in the same
/// transaction; without that a start is only sure where raw is still whole from offset 0.
pub fn begin_at(position: Position, begin: Option<Begin>) -> Result<i64, String> {
    let (low, high) = position.raw;
    let chosen = |why: String| match begin {
        Some(Begin::Earliest) => Ok(low),
        Some(Begin::Latest) => Ok(high),
        None => Err(format!("{why}; set processor.begin to earliest or latest")),
    };
    let from = match (position.committed, position.log_to) {
        (Some(offset), _) | (None, Some(offset)) => offset,
        (None, None) if low == 0 => return Ok(0),
        (None, None) => {
            return chosen(format!(
                "there is no committed offset and no dedup-log, and raw begins at {low}"
            ));
        }
    };
    if (low..=high).contains(&from) {
        return Ok(from);
    }
    chosen(format!(
        "the position {from} is outside of raw, which has {low} to {high}"
    ))
}

/// The last record of a dedup-log, without its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Where its transaction began to read.
    pub from: i64,
    /// The offset after the last record that it judged.
    pub to: i64,
    /// Over how many of raw's partitions keys were placed.
    pub key_partitions: u32,
    /// Below this raw offset every fate was seen to be visible.
    pub seen: i64,
    /// Up to this raw offset a repair was on its way; 0 where none was. A reposition's is its own offset.
    pub until: i64,
}

impl LogEnd {
    /// Whether it only says where judging begins.
    pub fn is_reposition(&self) -> bool {
        self.from == self.to && self.until == self.to
    }
}

/// The position of the group once the log's end is taken into account. Both were written in one transaction,
/// which a broker may have torn: the one that is ahead is right, for what is missing behind it is found by
/// the audit. An offset before what was seen to be visible, offsets included, was set back by somebody. A
/// reposition vouches for no offset, its own included.
pub fn group_position(
    committed: Option<i64>,
    last: Option<&LogEnd>,
) -> Result<Option<i64>, String> {
    match (committed, last) {
        (Some(committed), Some(last)) if committed < last.seen && !last.is_reposition() => {
            Err(format!(
                "the committed offset {committed} was rewound: the dedup-log vouches for all fates up to {}",
                last.seen
            ))
        }
        (Some(committed), Some(last)) => Ok(Some(committed.max(last.to))),
        (committed, _) => Ok(committed),
    }
}

/// A retry meets what it repeats only for as long as keys are placed over as many partitions.
pub fn check_keys(last: &LogEnd, key_partitions: u32) -> Result<(), String> {
    if last.key_partitions == key_partitions {
        return Ok(());
    }
    Err(format!(
        "keys were placed over {} partitions when the dedup-log was written, and topics.key_partitions is \
         {key_partitions} now: see \"More partitions\" in docs/operating.md",
        last.key_partitions
    ))
}

/// Where raw has other partitions than the settings say, nobody knows over which of them keys are placed.
pub fn check_raw(has: u32, settings: &Topics) -> Result<(), String> {
    let partitions = settings.partitions.unsigned_abs();
    if has == partitions {
        return Ok(());
    }
    Err(format!(
        "raw has {has} partitions and topics.partitions is {partitions}: see \"More partitions\" in \
         docs/operating.md"
    ))
}

/// The raw offsets that an audit is about.
pub struct AuditRange {
    /// Below, every fate was seen to be visible.
    pub from: i64,
    /// Below, the log accounts for the events.
    pub logged: i64,
    /// Below, every record must have a fate.
    pub to: i64,
    /// Below, records may have one.
    pub until: i64,
    /// A repair is on its way: the log has entries of records beyond `to`, which have no fate yet.
    pub repairs: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(committed: Option<i64>, raw: (i64, i64), log_to: Option<i64>) -> Position {
        Position {
            committed,
            raw,
            log_to,
        }
    }

    #[test]
    fn begins_at_the_offset_then_at_the_log_then_at_the_start_of_a_whole_raw() {
        assert_eq!(begin_at(position(Some(7), (0, 9), None), None), Ok(7));
        assert_eq!(begin_at(position(Some(7), (0, 9), Some(9)), None), Ok(7));
        assert_eq!(begin_at(position(None, (3, 9), Some(8)), None), Ok(8));
        assert_eq!(begin_at(position(None, (0, 9), None), None), Ok(0));
        assert_eq!(begin_at(position(None, (0, 0), None), None), Ok(0));
    }

    #[test]
    fn a_lost_position_needs_the_operator_who_may_decide() {
        for lost in [
            position(None, (3, 9), None),
            position(Some(2), (3, 9), None),
            position(Some(10), (3, 9), None),
            position(None, (3, 9), Some(2)),
        ] {
            assert!(begin_at(lost, None).is_err(), "{lost:?}");
            assert_eq!(begin_at(lost, Some(Begin::Earliest)), Ok(3));
            assert_eq!(begin_at(lost, Some(Begin::Latest)), Ok(9));
        }
        // What is not lost is not decided again.
        let known = position(Some(7), (3, 9), None);
        assert_eq!(begin_at(known, Some(Begin::Latest)), Ok(7));
    }

    fn end(from: i64, to: i64, seen: i64) -> LogEnd {
        LogEnd {
            from,
            to,
            key_partitions: 12,
            seen,
            until: 0,
        }
    }

    #[test]
    fn of_offset_and_log_the_one_that_is_ahead_is_right_unless_somebody_rewound() {
        let last = end(6, 8, 5);
        assert_eq!(group_position(Some(8), Some(&last)), Ok(Some(8)));
        // The offset is in force and the log's record is not, or the other way round.
        assert_eq!(group_position(Some(9), Some(&last)), Ok(Some(9)));
        assert_eq!(group_position(Some(6), Some(&last)), Ok(Some(8)));
        assert_eq!(group_position(Some(5), Some(&last)), Ok(Some(8)));
        assert!(group_position(Some(4), Some(&last)).is_err());
        let reposition = LogEnd {
            until: 8,
            ..end(8, 8, 8)
        };
        assert_eq!(group_position(Some(4), Some(&reposition)), Ok(Some(8)));
        let checkpoint = end(8, 8, 8);
        assert_eq!(group_position(Some(8), Some(&checkpoint)), Ok(Some(8)));
        assert!(group_position(Some(4), Some(&checkpoint)).is_err());
        assert_eq!(group_position(None, Some(&last)), Ok(None));
        assert_eq!(group_position(Some(7), None), Ok(Some(7)));
    }

    #[test]
    fn keys_met_in_other_partitions_when_they_were_placed_over_another_number_of_them() {
        assert_eq!(check_keys(&end(0, 8, 0), 12), Ok(()));
        let found = check_keys(&end(0, 8, 0), 13);
        assert_eq!(
            found,
            Err(
                "keys were placed over 12 partitions when the dedup-log was written, and \
                 topics.key_partitions is 13 now: see \"More partitions\" in docs/operating.md"
                    .to_owned()
            )
        );
    }
}
