//! The same numbers in every run, so that a failure comes again.

/// Xorshift.
pub struct Random(pub u64);

impl Random {
    /// The one that frames are damaged with.
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// The frame with up to three bytes behind its Ethernet addresses changed, and often cut off.
    pub fn damaged(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut damaged = frame.to_vec();
        for _ in 0..=self.below(3) {
            let at = 12 + self.below(frame.len() - 12);
            damaged[at] = self.below(256) as u8;
        }
        damaged.truncate(frame.len() - if self.below(4) == 0 { self.below(frame.len() - 14) } else { 0 });
        damaged
    }
}
