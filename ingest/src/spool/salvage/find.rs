//! Looking for records in what is left of a store.
//!
//! All of it may be what a sender wrote, but for what the key proves. So the work is bounded by the length
//! whatever the bytes are: a mark whose head has no good tag costs a few bytes of hashing, a proved record is
//! skipped, and of records that nothing proves so much is hashed and no more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem::Finder;
use ring::digest::{Context, SHA256};

use super::super::key::{Key, Tag};
use super::super::record::{self, Head, MARK, v1};

/// How much is looked through at once, in bytes.
const CHUNK: usize = 1 << 20;

/// How much is hashed at once, in bytes.
const PIECE: usize = 64 << 10;

/// No release wrote a larger record: bodies have 64 MiB at most, and the rest has far less than this.
const MAX_RECORD: u64 = 80 << 20;

/// How often the length may be hashed, at most, of heads, of records that the key proves, and of others.
const HEADS: u64 = 4;
const PROVED: u64 = 2;
const UNPROVED: u64 = 2;

/// Bytes that can be read at any place: a file, or a slice.
pub trait Bytes {
    /// How many there are.
    ///
    /// # Errors
    /// That cannot be read.
    fn length(&self) -> io::Result<u64>;

    /// Those at a place, all of them.
    ///
    /// # Errors
    /// They cannot be read.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;
}

impl Bytes for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(into, at)
    }
}

impl Bytes for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let found = at.checked_add(into.len()).and_then(|end| self.get(at..end));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Where a whole record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub at: u64,
    /// Its bytes.
    pub length: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Records that the key proves, by number and tag: the first copy of each. A number may have been given
    /// to a record that was then not acknowledged, so each tag counts.
    pub proved: BTreeMap<(u64, Tag), Place>,
    /// Whole records that it does not prove, by number and SHA-256: of version 1, of another key, or a
    /// sender's body.
    pub unproved: BTreeMap<(u64, [u8; 32]), Place>,
    /// Whole records that are left out because they are too old.
    pub older: u64,
    /// Claims to be a record that were not looked at, for enough was hashed.
    pub unchecked: u64,
    /// Bytes that were hashed.
    pub hashed: u64,
}

/// Looks through all bytes. `keeps` decides by the time of receipt which whole records are wanted.
///
/// # Errors
/// They cannot be read.
pub fn find<B: Bytes + ?Sized>(
    bytes: &B,
    key: &Key,
    keeps: &dyn Fn(i64) -> bool,
) -> io::Result<Found> {
    let length = bytes.length()?;
    let mut search = Search {
        bytes,
        length,
        key,
        keeps,
        heads: HEADS.saturating_mul(length),
        proved: PROVED.saturating_mul(length),
        unproved: UNPROVED.saturating_mul(length),
        piece: vec![0; PIECE],
        found: Found::default(),
    };
    let finder = Finder::new(MARK);
    // A head that begins in a chunk is whole in the buffer.
    let mut buffer = vec![0; CHUNK + record::HEAD - 1];
    let mut start = 0;
    while start < length {
        let here =
            usize::try_from(length - start).map_or(buffer.len(), |left| left.min(buffer.len()));
        let chunk = &mut buffer[..here];
        bytes.read_at(chunk, start)?;
        let mut next = 0;
        while let Some(mark) = chunk.get(next..).and_then(|rest| finder.find(rest)) {
            let at = next + mark;
            if at >= CHUNK {
                break;
            }
            let skip = search.judge(start + at as u64, &chunk[at..])?;
            let skip = skip.map_or(MARK.len(), |skip| {
                usize::try_from(skip).unwrap_or(usize::MAX)
            });
            next = at.saturating_add(skip);
        }
        start += next.max(CHUNK) as u64;
    }
    Ok(search.found)
}

struct Search<'a, B: ?Sized> {
    bytes: &'a B,
    length: u64,
    key: &'a Key,
    keeps: &'a dyn Fn(i64) -> bool,
    /// What may still be hashed.
    heads: u64,
    proved: u64,
    unproved: u64,
    piece: Vec<u8>,
    found: Found,
}

impl<B: Bytes + ?Sized> Search<'_, B> {
    /// Looks at a mark, with which `head` begins. Returns how much a whole record takes: what is in it is no
    /// record.
    fn judge(&mut self, at: u64, head: &[u8]) -> io::Result<Option<u64>> {
        match head.get(MARK.len()) {
            Some(1) => self.judge_v1(at, head),
            Some(&record::VERSION) => self.judge_v2(at, head),
            _ => Ok(None),
        }
    }

    fn judge_v2(&mut self, at: u64, bytes: &[u8]) -> io::Result<Option<u64>> {
        let Some(head) = Head::of(bytes).filter(|head| self.fits(at, head.record_length())) else {
            return Ok(None);
        };
        if !take(&mut self.heads, record::TAGGED as u64) {
            self.found.unchecked += 1;
            return Ok(None);
        }
        self.found.hashed += record::TAGGED as u64;
        let proved = record::tag(self.key, bytes) == Some(head.tag);
        let place = Place {
            at,
            length: head.record_length(),
        };
        if self.digest(place, record::checked(), proved)? != Some(head.digest) {
            return Ok(None);
        }
        if !(self.keeps)(head.received_at) {
            self.found.older += 1;
        } else if proved {
            let known = (head.number, head.tag);
            self.found.proved.entry(known).or_insert(place);
        } else {
            let known = (head.number, head.digest);
            self.found.unproved.entry(known).or_insert(place);
        }
        Ok(Some(place.length))
    }

    fn judge_v1(&mut self, at: u64, head: &[u8]) -> io::Result<Option<u64>> {
        let mut length = v1::HEAD as u64;
        for _ in 0..v1::PARTS {
            if !self.fits(at, length + 4) {
                return Ok(None);
            }
            let mut part = [0; 4];
            self.bytes.read_at(&mut part, at + length)?;
            length += 4 + u64::from(u32::from_be_bytes(part));
        }
        if !self.fits(at, length) {
            return Ok(None);
        }
        let place = Place { at, length };
        let Some(digest) = self.digest(place, v1::CHECKED as u64, false)? else {
            return Ok(None);
        };
        let claimed = v1::claimed(head);
        let Some((check, number, received_at)) = claimed else {
            return Ok(None);
        };
        if *check != digest[..v1::CHECK] {
            return Ok(None);
        }
        if (self.keeps)(received_at) {
            let known = (number, digest);
            self.found.unproved.entry(known).or_insert(place);
        } else {
            self.found.older += 1;
        }
        Ok(Some(length))
    }

    fn fits(&self, at: u64, length: u64) -> bool {
        length <= MAX_RECORD && at.checked_add(length).is_some_and(|end| end <= self.length)
    }

    /// SHA-256 over a record from `from` on. `None`: enough was hashed.
    fn digest(&mut self, place: Place, from: u64, proved: bool) -> io::Result<Option<[u8; 32]>> {
        let (mut at, end) = (place.at + from, place.at + place.length);
        let left = if proved {
            &mut self.proved
        } else {
            &mut self.unproved
        };
        if !take(left, end - at) {
            self.found.unchecked += 1;
            return Ok(None);
        }
        self.found.hashed += end - at;
        let mut context = Context::new(&SHA256);
        while at < end {
            let here = usize::try_from(end - at).map_or(PIECE, |left| left.min(PIECE));
            let piece = &mut self.piece[..here];
            self.bytes.read_at(piece, at)?;
            context.update(piece);
            at += here as u64;
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Some(digest))
    }
}

/// Takes as much of what is left, where there is as much.
fn take(left: &mut u64, bytes: u64) -> bool {
    match left.checked_sub(bytes) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}
