//! What Flowcode sends: not public, so little of it is read.

use serde::Deserialize;

use crate::json::RawField;

/// The members in which a type or a time may stand.
#[derive(Debug, Default, Deserialize)]
pub struct Body<'a> {
    #[serde(borrow, rename = "type")]
    kind: RawField<'a>,
    #[serde(borrow)]
    event_type: RawField<'a>,
    #[serde(borrow, rename = "eventType")]
    event_type_camel: RawField<'a>,
    #[serde(borrow)]
    event: RawField<'a>,
    #[serde(borrow)]
    pub timestamp: RawField<'a>,
}

/// A member in which the type may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeMember {
    /// `type`
    Type,
    /// `event_type`
    EventType,
    /// `eventType`
    EventTypeCamel,
    /// `event`
    Event,
}

impl TypeMember {
    /// All, in the order of looking.
    pub const ALL: [Self; 4] = [
        Self::Type,
        Self::EventType,
        Self::EventTypeCamel,
        Self::Event,
    ];
}

/// The setting `type_field`.
pub const TYPE_FIELDS: [(&str, &[TypeMember]); 5] = [
    ("auto", &TypeMember::ALL),
    ("type", &[TypeMember::Type]),
    ("event_type", &[TypeMember::EventType]),
    ("eventType", &[TypeMember::EventTypeCamel]),
    ("event", &[TypeMember::Event]),
];

impl<'a> Body<'a> {
    /// The value of a member.
    pub fn member(&self, member: TypeMember) -> RawField<'a> {
        match member {
            TypeMember::Type => self.kind,
            TypeMember::EventType => self.event_type,
            TypeMember::EventTypeCamel => self.event_type_camel,
            TypeMember::Event => self.event,
        }
    }
}
