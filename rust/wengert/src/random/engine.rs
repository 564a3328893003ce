//! The MT19937 generator of Matsumoto and Nishimura (ACM TOMACS 8(1), 1998), seeded as in their
//! 2002 revision.
//!
//! 624 words of state yield 624 outputs: each is one state word, *tempered* by shifts and masks.
//! Then a *twist* replaces all words. Word `i` of the new state needs words `i`, `i + 1` and
//! `i + 397` (cyclically), so runs of 227 words are independent of each other and the compiler
//! turns both loops into vector code. The order of outputs is that of the one-at-a-time generator.

use super::isa::{self, Kernel};

const N: usize = 624;
const M: usize = 397;

#[derive(Clone)]
pub(super) struct Mt19937 {
    pub(super) seed: u64,
    /// One more than the number of outputs left before the next twist.
    pub(super) left: u32,
    /// The state word of the next output, unless a twist comes first.
    pub(super) next: u32,
    pub(super) state: [u32; N],
}

impl Mt19937 {
    /// Only the low 32 bits of the seed decide the stream; all 64 are remembered.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = [0; N];
        state[0] = seed as u32;
        for i in 1..N {
            let previous: u32 = state[i - 1];
            state[i] =
                1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Mt19937 { seed, left: 1, next: 0, state }
    }

    /// The next 64 bits; the first output is the high half.
    pub(super) fn next_u64(&mut self) -> u64 {
        let mut next_u32 = || temper(self.advance(1)[0]);
        join([next_u32(), next_u32()])
    }

    /// The next outputs, in order.
    #[inline(always)]
    pub(super) fn fill(&mut self, mut out: &mut [u32]) {
        while !out.is_empty() {
            let words = self.advance(out.len());
            let (head, tail) = out.split_at_mut(words.len());
            for (o, &word) in head.iter_mut().zip(words) {
                *o = temper(word);
            }
            out = tail;
        }
    }

    /// Passes over `count` outputs.
    pub(super) fn skip(&mut self, mut count: usize) {
        while count > 0 {
            count -= self.advance(count).len();
        }
    }

    /// Up to `count` state words, at least one, now counted as used.
    #[inline(always)]
    fn advance(&mut self, count: usize) -> &[u32] {
        if self.left == 1 {
            isa::run(Twist(&mut self.state));
            self.left = N as u32 + 1;
            self.next = 0;
        }
        let start = self.next as usize;
        let taken = count.min(self.left as usize - 1);
        self.left -= taken as u32;
        self.next += taken as u32;
        &self.state[start..start + taken]
    }
}

/// Two outputs as one 64-bit number.
#[inline(always)]
pub(super) fn join([high, low]: [u32; 2]) -> u64 {
    (high as u64) << 32 | low as u64
}

#[inline(always)]
fn temper(mut y: u32) -> u32 {
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    y ^ (y >> 18)
}

#[inline(always)]
fn mix(word: u32, following: u32) -> u32 {
    let joined = (word & 0x8000_0000) | (following & 0x7fff_ffff);
    let odd = (following & 1).wrapping_neg();
    (joined >> 1) ^ (odd & 0x9908_b0df)
}

struct Twist<'a>(&'a mut [u32; N]);

impl Kernel for Twist<'_> {
    #[inline(always)]
    fn run(self) {
        let state = self.0;
        for i in 0..N - M {
            state[i] = state[i + M] ^ mix(state[i], state[i + 1]);
        }
        for i in N - M..N - 1 {
            state[i] = state[i + M - N] ^ mix(state[i], state[i + 1]);
        }
        state[N - 1] = state[M - 1] ^ mix(state[N - 1], state[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The C++ standard fixes the 10000th output for seed 5489 ([rand.predef]).
    #[test]
    fn ten_thousandth_output_is_the_standards() {
        let mut engine = Mt19937::new(5489);
        engine.skip(9_999);
        let mut output = [0];
        engine.fill(&mut output);
        assert_eq!(output, [4_123_659_995]);
    }

    #[test]
    fn block_sizes_do_not_matter() {
        let mut expected = vec![0; 5000];
        expected.chunks_mut(1).for_each({
            let mut engine = Mt19937::new(1);
            move |one| engine.fill(one)
        });
        for size in [2, 7, 226, 227, 623, 624, 625, 1300, 5000] {
            let mut engine = Mt19937::new(1);
            let mut got = vec![0; 5000];
            got.chunks_mut(size).for_each(|piece| engine.fill(piece));
            assert_eq!(got, expected, "in pieces of {size}");
        }
    }
}
