//! HMAC-SHA256 in one header, over a message that a template describes.

use std::borrow::Cow;

use crate::event::Authenticity;
use crate::providers::api::Proof;
use crate::providers::signature::Key;
use crate::reason::{Reason, Refusal};

/// A message that may be under the signature: parts one after the other. `F` names the fields of a request
/// that a provider's templates use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template<F: 'static> {
    /// The name in settings and events, such as `ts.data`.
    pub name: &'static str,
    /// How much of the delivery the message covers.
    pub authenticity: Authenticity,
    /// The parts, in their order.
    pub parts: &'static [Part<F>],
}

/// A part of a [`Template`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<F> {
    /// Text that is the same in each message.
    Text(&'static str),
    /// A field of the request.
    Field(F),
}

impl<F: Copy> Template<F> {
    /// The parts of the message; `None` where the request lacks one of the fields.
    pub fn message<'f>(
        &self,
        field: impl Fn(F) -> Option<Cow<'f, [u8]>>,
    ) -> Option<Vec<Cow<'f, [u8]>>> {
        let part = |part: &Part<F>| match *part {
            Part::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
            Part::Field(name) => field(name),
        };
        self.parts.iter().map(part).collect()
    }
}

/// The MAC of a request, and the secrets that may have made it.
#[derive(Debug, Clone, Copy)]
pub struct Signature<'a> {
    /// The header that carries the MAC.
    pub header: &'static str,
    /// The MAC, decoded.
    pub mac: &'a [u8; 32],
    /// The secrets of the source; all are tried.
    pub keys: &'a [Key],
}

impl Signature<'_> {
    /// Tries templates in their order. One whose field a request lacks is passed over.
    pub fn verify<'f, F: Copy>(
        &self,
        templates: &[Template<F>],
        field: impl Fn(F) -> Option<Cow<'f, [u8]>>,
    ) -> Result<Proof, Refusal> {
        let proof = templates.iter().find_map(|template| {
            let parts = template.message(&field)?;
            let parts: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
            self.over(template.name, template.authenticity, &parts)
        });
        proof.ok_or_else(|| self.mismatch())
    }

    /// Tries one message, given as its parts one after the other, under each secret.
    pub fn over(
        &self,
        scheme: &'static str,
        authenticity: Authenticity,
        message: &[&[u8]],
    ) -> Option<Proof> {
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key.hmac_matches(message, self.mac))?;
        Some(Proof::signed(authenticity, scheme, key))
    }

    /// The refusal where no secret gives the MAC over any message.
    pub fn mismatch(&self) -> Refusal {
        let header = self.header;
        Reason::SignatureMismatch.because(format!("no secret gives {header} over this request"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMED: Template<char> = Template {
        name: "t.b",
        authenticity: Authenticity::Signed,
        parts: &[Part::Field('t'), Part::Text("."), Part::Field('b')],
    };
    const BARE: Template<char> = Template {
        name: "b",
        authenticity: Authenticity::PartiallySigned,
        parts: &[Part::Field('b')],
    };

    fn verified(signed: &[u8], time: Option<&'static [u8]>) -> Option<&'static str> {
        let key = Key::hmac(b"secret");
        let mac = key.hmac_of(&[signed]).expect("a shared secret");
        let signature = Signature {
            header: "x-sig",
            mac: &mac,
            keys: &[Key::hmac(b"another"), key],
        };
        let field = |name| match name {
            't' => time.map(Cow::Borrowed),
            _ => Some(Cow::Borrowed(b"body".as_slice())),
        };
        let proof = signature.verify(&[TIMED, BARE], field);
        if let Err(refusal) = &proof {
            assert_eq!(refusal.reason, Reason::SignatureMismatch);
        }
        proof.ok()?.scheme
    }

    #[test]
    fn the_first_template_that_fits_is_the_scheme() {
        assert_eq!(verified(b"7.body", Some(b"7")), Some("t.b"));
        assert_eq!(verified(b"body", Some(b"7")), Some("b"));
        assert_eq!(verified(b"7body", Some(b"7")), None);
    }

    #[test]
    fn a_template_without_its_field_is_passed_over() {
        assert_eq!(verified(b".body", None), None);
        assert_eq!(verified(b"body", None), Some("b"));
    }
}
