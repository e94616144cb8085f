//! What the topics hold of a request: the record to judge, the fate that it had, the event of its identity.

use sluice_schemas::audit::fate_of;
use sluice_schemas::fate::{DUPLICATE_OF, Fate, RAW_OFFSET, RAW_PARTITION, REASON};
use sluice_schemas::record::Record;
use sluice_schemas::settings::Settings;

use crate::failure::Failure;
use crate::output;
use crate::records::reader::Topics;
use crate::records::view::{Place, View, read};
use crate::records::window::{Window, shown};
use crate::records::{self, Notes, fate_topics};

/// The fate that a record had when the processor judged it.
#[derive(Debug, Clone)]
pub struct Had {
    pub fate: &'static str,
    pub reason: Option<String>,
    /// The event that it is, or that it repeats.
    pub event: Option<String>,
}

/// A request's record, and what became of it.
pub struct Stored {
    pub record: Record,
    pub had: Option<Had>,
}

/// What one reading found.
#[derive(Default)]
struct Found {
    raw: Option<Record>,
    /// A fate that keeps body and headers, where raw has lost the record.
    kept: Option<Record>,
    had: Option<(Option<Place>, Had)>,
}

impl Found {
    fn take(&mut self, settings: &Settings, id: &str, record: Record) -> View {
        let names = &settings.topics.names;
        let view = read(names, &record).view;
        if !view
            .request_id
            .as_deref()
            .is_some_and(|one| one.eq_ignore_ascii_case(id))
        {
            return view;
        }
        if record.topic == names.raw() {
            self.raw = Some(record);
            return view;
        }
        let fate = fate_of(names, &record.topic);
        let had = Had {
            fate: fate.name(),
            reason: record.text(REASON).map(str::to_owned),
            event: view
                .event
                .clone()
                .or(record.text(DUPLICATE_OF).map(str::to_owned)),
        };
        self.had = Some((view.raw, had));
        if fate != Fate::Event {
            self.kept = Some(as_raw(record, names.raw()));
        }
        view
    }
}

/// A record of a fate at the place that it had on raw.
fn as_raw(record: Record, topic: String) -> Record {
    let partition = record
        .number(RAW_PARTITION)
        .and_then(|one| i32::try_from(one).ok());
    Record {
        partition: partition.unwrap_or(record.partition),
        offset: record.number(RAW_OFFSET).unwrap_or(record.offset),
        topic,
        ..record
    }
}

/// The newest record of a request; an error says where was looked.
pub fn request(settings: &Settings, id: &str, window: Window) -> Result<Stored, Failure> {
    eprintln!("looking for {} {window}", output::plain(id));
    let mut all = vec![settings.topics.names.raw()];
    all.extend(fate_topics(settings));
    let (mut found, mut notes) = (Found::default(), Notes::default());
    let opened = records::read(Topics::new(settings)?, &all, window.since, &mut |record| {
        let view = found.take(settings, id, record);
        notes.unread(view.unread.as_ref());
    })?;
    notes.lacking.clone_from(&opened.lacking);
    notes.report();
    let Found { raw, kept, had } = found;
    let is_event = had
        .as_ref()
        .is_some_and(|(_, had)| had.fate == Fate::Event.name());
    let Some(record) = raw.or(kept) else {
        let id = output::plain(id);
        return Err(Failure::Failed(if is_event {
            format!(
                "{id} is an event, and retention has deleted its raw record: nothing is left to judge"
            )
        } else {
            format!(
                "{id} was not found {window}, on raw, the dead letters and the rejected; --since looks further \
                 back, and `sluicectl find` takes other ids"
            )
        }));
    };
    let place = Place {
        partition: i64::from(record.partition),
        offset: record.offset,
    };
    let had = had
        .filter(|(of, _)| of.is_none_or(|of| of == place))
        .map(|(_, had)| had);
    Ok(Stored { record, had })
}

/// Whether an event of this id stands on its topic; its raw record.
pub fn event(
    settings: &Settings,
    topic: &str,
    id: &str,
    since: i64,
) -> Result<Option<View>, Failure> {
    eprintln!(
        "looking for the event {id} on {topic} from {} on",
        shown(since)
    );
    let mut found = None;
    let names = [topic.to_owned()];
    let opened = records::read(Topics::new(settings)?, &names, since, &mut |record| {
        let view = read(&settings.topics.names, &record).view;
        if view.event.as_deref() == Some(id) {
            found.get_or_insert(view);
        }
    })?;
    for line in opened.lacking {
        eprintln!("not read: {line}");
    }
    Ok(found)
}
