//! How a target takes its choices from bytes.

/// The longest input that a target looks at, in bytes: an oracle may be slow, and finds nothing more in a
/// longer one.
pub const LONGEST: usize = 8192;

/// Bytes that are read from the front. Printable seeds can be written by hand: a choice is a letter.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of the bytes; `None` where they are longer than [`LONGEST`].
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() <= LONGEST).then_some(Self { rest: bytes })
    }

    /// One byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// One of `count` choices: `a` is the first.
    pub fn choice(&mut self, count: usize) -> usize {
        usize::from(self.byte().wrapping_sub(b'a')) % count
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.choice(choices.len())]
    }

    /// Up to a byte, which is passed; all that is left where it does not come.
    pub fn until(&mut self, end: u8) -> &'a [u8] {
        let at = self.rest.iter().position(|byte| *byte == end);
        let (part, rest) = match at {
            Some(at) => (&self.rest[..at], &self.rest[at + 1..]),
            None => (self.rest, &self.rest[self.rest.len()..]),
        };
        self.rest = rest;
        part
    }

    /// Up to the end of a line, which is passed.
    pub fn line(&mut self) -> &'a [u8] {
        self.until(b'\n')
    }

    /// All that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}
