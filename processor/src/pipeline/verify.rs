//! First verb: is it authentic, and does it say enough to be an event?

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use sluice_schemas::fate::{REDRIVE_COUNT, REDRIVE_LIMIT};
use sluice_schemas::providers::{Authentic, Delivery, Keyring};
use sluice_schemas::raw::RawRequest;
use sluice_schemas::reason::{Reason, Refusal};
use sluice_schemas::settings::{Settings, Source};

use crate::record::Record;

/// A delivery that is authentic. Only [`verify`] makes one.
pub struct Verified<'s, 'r> {
    pub(crate) source: &'s Source,
    pub(crate) request: &'r RawRequest,
    pub(crate) authentic: Authentic<'r>,
    _only_here: (),
}

/// The source that a record is of, if it is configured and of the provider that the record names.
pub fn source<'a>(settings: &'a Settings, request: &RawRequest) -> Result<&'a Source, Refusal> {
    let Some(source) = settings.sources.get(&request.source) else {
        return Err(Reason::UnknownSource.because("no source of this name is in the settings"));
    };
    if source.provider.spec().name != request.provider {
        return Err(Reason::UnknownSource
            .because("the source was of another provider when the request was received"));
    }
    Ok(source)
}

/// Whether a record was redriven no more often than it may be.
pub fn within_redrive_limit(record: &Record) -> Result<(), Refusal> {
    let Some(count) = record.header(REDRIVE_COUNT) else {
        return Ok(());
    };
    let count = std::str::from_utf8(count)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    match count {
        Some(count) if count <= REDRIVE_LIMIT => Ok(()),
        Some(_) => Err(Reason::RedriveLimit
            .because(format!("it was redriven more than {REDRIVE_LIMIT} times"))),
        None => Err(Reason::RedriveLimit.because("its count of redrives is not a decimal number")),
    }
}

/// Proves a delivery by those of its source's secrets that were valid when it was received.
pub fn verify<'s, 'r>(
    source: &'s Source,
    credentials: &Keyring,
    request: &'r RawRequest,
    body: &'r [u8],
) -> Result<Verified<'s, 'r>, Refusal> {
    let delivery = Delivery { request, body };
    let authentic = credentials.verify(source.verifier.as_ref(), delivery)?;
    Ok(Verified {
        source,
        request,
        authentic,
        _only_here: (),
    })
}
