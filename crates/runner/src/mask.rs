//! Keeps secrets out of everything that is written, wherever the stream is cut.
//!
//! Every byte of every written form of a secret is left out, and each run of such bytes becomes one
//! [`MASK`]. The result depends on the bytes alone, not on how they arrive: what may be the beginning
//! of a form is held back until it is known to be one or not.

mod forms;
mod patterns;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use agent_domain::Secret;

use patterns::Patterns;

/// What stands in place of a secret. It needs no escaping in JSON, URLs or a shell.
pub const MASK: &str = "[masked]";
/// Shortest secret that is masked, in bytes: a shorter one turns up by chance.
pub const SECRET_MIN: usize = 6;
/// From this length on, a text that ends within a form is taken for a secret that was cut off. It is
/// longer than the prefixes that keys are known by (`sk-ant-api`, `github_pat_`).
const CUT_OFF_MIN: usize = 12;

/// Knows secrets and all their written forms. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    /// `None`: there is nothing to look for.
    patterns: Option<Arc<Patterns>>,
}

impl Masker {
    /// Knows `secrets`, but for those shorter than [`SECRET_MIN`].
    ///
    /// The forms are: as it is; base64 in both alphabets at every alignment and however its lines are
    /// wrapped; hexadecimal; JSON, also nested; percent-encoded; quoted for a shell. Of a secret of
    /// several lines each long line counts as a secret too, and of a Standard Webhooks secret
    /// (`whsec_...`) the key within.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let forms = forms::of(secrets);
        Self {
            patterns: (!forms.is_empty()).then(|| Arc::new(Patterns::new(forms))),
        }
    }

    /// Masks a text that is complete. One that was cut off within a secret loses its end, too.
    pub fn mask<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(patterns) = &self.patterns else {
            return Cow::Borrowed(text);
        };
        if patterns.find(text).is_empty() && cut_off(patterns, text).is_none() {
            return Cow::Borrowed(text);
        }
        let mut masked = Vec::with_capacity(text.len());
        let mut stream = MaskStream::new(self.clone());
        stream.feed(text, |piece| masked.extend_from_slice(piece));
        stream.finish(|piece| masked.extend_from_slice(piece));
        Cow::Owned(masked)
    }

    /// Masks a text that is complete.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.mask(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forms = self.patterns.as_ref().map_or(0, |found| found.count());
        f.debug_struct("Masker").field("forms", &forms).finish()
    }
}

/// Masks a stream that comes in pieces.
///
/// Holds no more than the longest form. However long the stream pauses, what may be the beginning of
/// a secret stays held.
#[derive(Debug, Default)]
pub struct MaskStream {
    masker: Masker,
    /// Not decided yet.
    held: Vec<u8>,
    /// How many of the first held bytes belong to a secret that began before them.
    covered: usize,
    /// The last byte that was decided belongs to a secret.
    masking: bool,
}

impl MaskStream {
    /// Begins a stream.
    pub fn new(masker: Masker) -> Self {
        Self {
            masker,
            ..Self::default()
        }
    }

    /// Takes in a piece and gives `sink` what is decided by it.
    pub fn feed(&mut self, piece: &[u8], mut sink: impl FnMut(&[u8])) {
        let Some(patterns) = self.masker.patterns.clone() else {
            sink(piece);
            return;
        };
        let mut held = std::mem::take(&mut self.held);
        let text = if held.is_empty() {
            piece
        } else {
            held.extend_from_slice(piece);
            &held
        };
        let end = patterns.undecided_from(text);
        let found = patterns.find(text);
        self.decide(text, end, found, &mut sink);
        self.held = text[end..].to_vec();
    }

    /// Gives `sink` what is left at the end of the stream. The beginning of a secret is masked when it
    /// is long enough to be no accident.
    pub fn finish(&mut self, mut sink: impl FnMut(&[u8])) {
        let Some(patterns) = self.masker.patterns.clone() else {
            return;
        };
        let text = std::mem::take(&mut self.held);
        let mut found = patterns.find(&text);
        found.extend(cut_off(&patterns, &text));
        self.decide(&text, text.len(), found, &mut sink);
        (self.covered, self.masking) = (0, false);
    }

    /// Gives out `text` up to `end` without the ranges of `found` and what is known to be covered.
    fn decide(
        &mut self,
        text: &[u8],
        end: usize,
        mut found: Vec<Range<usize>>,
        sink: &mut impl FnMut(&[u8]),
    ) {
        found.sort_unstable_by_key(|range| range.start);
        let mut done = self.covered;
        for range in found {
            let start = range.start.min(end);
            if start > done {
                sink(&text[done..start]);
                self.masking = false;
                done = start;
            }
            // What begins among the held bytes is found again when more has come.
            if range.start >= end || range.end <= done {
                continue;
            }
            if !self.masking {
                sink(MASK.as_bytes());
                self.masking = true;
            }
            done = range.end;
        }
        self.covered = done.saturating_sub(end);
        if done < end {
            sink(&text[done..end]);
            self.masking = false;
        }
    }
}

/// The end of `text` that is a long beginning of a form.
fn cut_off(patterns: &Patterns, text: &[u8]) -> Option<Range<usize>> {
    let from = patterns.undecided_from(text);
    (text.len() - from >= CUT_OFF_MIN).then_some(from..text.len())
}

#[cfg(test)]
mod tests;
