//! Finding forms, and the beginnings of forms at the end of a text.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

/// Up to this many bytes of forms, the fastest kind of automaton takes a few megabytes; beyond, as for
/// secrets of many lines, a smaller and slower one is made.
const FAST_MAX: usize = 16 * 1024;
/// How many bytes decide whether a form may begin somewhere. No form is shorter.
const GRAM: usize = 3;
const GRAM_BITS: usize = 1 << 16;

/// A set of forms to be found.
pub(super) struct Patterns {
    /// `None`, which takes billions of bytes of forms, means that everything is to be masked.
    finder: Option<AhoCorasick>,
    sorted: Vec<Vec<u8>>,
    longest: usize,
    /// Which first bytes forms have, by their hash.
    grams: Vec<bool>,
}

impl Patterns {
    pub(super) fn new(forms: BTreeSet<Vec<u8>>) -> Self {
        let total: usize = forms.iter().map(Vec::len).sum();
        let kind = if total <= FAST_MAX {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        let finder = AhoCorasick::builder().kind(Some(kind)).build(&forms);
        let mut grams = vec![false; GRAM_BITS];
        for form in &forms {
            grams[gram(form)] = true;
        }
        Self {
            finder: finder.ok(),
            longest: forms.iter().map(Vec::len).max().unwrap_or(0),
            sorted: forms.into_iter().collect(),
            grams,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Every occurrence of every form.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let Some(finder) = &self.finder else {
            let all = 0..text.len();
            return Vec::from([all]);
        };
        finder
            .find_overlapping_iter(text)
            .map(|found| found.range())
            .collect()
    }

    /// From where on `text` may be the beginning of a form; its length where it cannot.
    pub(super) fn undecided_from(&self, text: &[u8]) -> usize {
        let first = (text.len() + 1).saturating_sub(self.longest);
        let mut all = first..text.len();
        all.find(|at| self.is_beginning(&text[*at..]))
            .unwrap_or(text.len())
    }

    /// Whether some form begins with `text` and is longer.
    fn is_beginning(&self, text: &[u8]) -> bool {
        if text.len() >= GRAM && !self.grams[gram(text)] {
            return false;
        }
        let after = self.sorted.partition_point(|form| form.as_slice() <= text);
        self.sorted
            .get(after)
            .is_some_and(|form| form.starts_with(text))
    }
}

/// A hash of the first bytes, of which there must be enough.
fn gram(text: &[u8]) -> usize {
    let three = text[..GRAM]
        .iter()
        .fold(0_usize, |hash, byte| hash << 8 | usize::from(*byte));
    (three ^ (three >> 9)) % GRAM_BITS
}
