//! Random ids from a seed, so that a script can ask for the same ones every time.

/// A small generator (splitmix64); good enough for ids of a test double.
#[derive(Debug, Clone)]
pub(crate) struct Ids(u64);

impl Ids {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Different on every start.
    pub(crate) fn fresh() -> Self {
        Self(crate::clock::unix_nanos() ^ (u64::from(std::process::id()) << 40))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | (b >> 48) & 0x3fff,
            b & 0xffff_ffff_ffff
        )
    }

    /// `prefix` and 24 letters and digits, as the API's ids.
    pub(crate) fn api(&mut self, prefix: &str) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789";
        let tail: String = (0..22)
            .map(|_| char::from(LETTERS[self.below(LETTERS.len())]))
            .collect();
        format!("{prefix}_01{tail}")
    }
}
