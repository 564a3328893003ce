//! Random numbers: PyTorch's CPU streams, bit for bit.
//!
//! After `manual_seed(s)` every function here returns the numbers that PyTorch 2.13 returns on an
//! x86-64 CPU with AVX2 that is not Intel's, so a model can be initialised in one library and
//! checked against the other. A [`Generator`] is a Mersenne Twister plus one cached normal; the
//! functions fill slices **in memory order**, and the stream depends on nothing but the seed and
//! the calls made:
//!
//! | function | takes | rule |
//! |---|---|---|
//! | [`uniform`](Generator::uniform) | 32 bits, float64: 64 | low 24 (53) bits scaled, one fused multiply-add |
//! | [`normal`](Generator::normal) | blocks of 16 uniforms | Box-Muller; below 16 values one by one |
//! | [`random_from_to`](Generator::random_from_to) | 32 bits, range >= 2^28: 64 | remainder |
//! | [`bernoulli`](Generator::bernoulli), [`dropout_mask`](Generator::dropout_mask) | 64 bits | uniform < p |
//! | [`bernoulli_each`](Generator::bernoulli_each) | 32 bits, float64: 64 | uniform < p |
//! | [`exponential`](Generator::exponential), [`cauchy`](Generator::cauchy), [`geometric`](Generator::geometric) | 64 bits | inverse distribution function in float64 |
//! | [`log_normal`](Generator::log_normal) | one by one | `exp` of a normal in float64 |
//! | [`permutation`](Generator::permutation) | 32 bits per place | Fisher-Yates |
//! | [`multinomial`](Generator::multinomial) | 64 bits | see there |
//!
//! Everything else is one of these calls: `rand` is `uniform(0, 1)`; `randn` and
//! `torch.normal(mean, std, size)` are `normal`; `randint` is `random_from_to`; the uniform and
//! normal functions of `nn.init` are one call on the tensor they fill. `torch.normal` with tensors
//! as mean or std fills with `normal(0, 1)`, or `normal(0, std)` if only the mean is a tensor, and
//! then multiplies and adds as separate, rounded operations.
//!
//! A tensor that is not contiguous is filled in the order of its memory, too, be it transposed or
//! a view with gaps. Only normals tell the difference: they are then drawn one by one
//! ([`normal_one_by_one`](Generator::normal_one_by_one)), however many they are.
//!
//! Where PyTorch itself differs between machines, this is what its others do: Intel CPUs draw
//! `bernoulli(p)` and dropout from a generator of Intel's library; CPUs without AVX2 take the C
//! library's `logf`, `sinf` and `cosf` for normals. float64 functions here call the C library as
//! PyTorch does, so their last bit is the platform's; everything else is the same everywhere.
//!
//! Checks come before draws: a call that fails leaves the generator as it was.

mod choice;
mod distributions;
mod engine;
mod integers;
mod isa;
mod normal;
mod sample;

pub use sample::Sample;

use crate::error::{Error, Kind, Result};
use engine::Mt19937;
use parking_lot::Mutex;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

/// The seed of `torch.Generator()`.
pub const DEFAULT_SEED: u64 = 67_280_421_310_721;

/// Length in bytes of a saved state.
pub const STATE_SIZE: usize = 5056;

/// A stream of random numbers.
///
/// ```
/// use wengert::random::Generator;
/// let mut generator = Generator::new(0);
/// let mut x = [0.0_f32; 3];
/// generator.uniform(&mut x, 0.0, 1.0)?;
/// assert_eq!(x, [0.49625658988952637, 0.7682217955589294, 0.08847743272781372]);
/// # Ok::<(), wengert::Error>(())
/// ```
#[derive(Clone)]
pub struct Generator {
    engine: Mt19937,
    cached_normal: Option<f64>,
}

impl Default for Generator {
    fn default() -> Self {
        Generator::new(DEFAULT_SEED)
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("initial_seed", &self.initial_seed()).finish()
    }
}

impl Generator {
    /// A generator seeded with `seed`. Only the low 32 bits decide the stream.
    pub fn new(seed: u64) -> Self {
        Generator { engine: Mt19937::new(seed), cached_normal: None }
    }

    /// Starts the stream of `seed`.
    pub fn manual_seed(&mut self, seed: u64) {
        *self = Generator::new(seed);
    }

    /// Seeds from the operating system's randomness and returns the seed.
    pub fn seed(&mut self) -> u64 {
        let seed = entropy();
        self.manual_seed(seed);
        seed
    }

    /// The seed this stream started from.
    pub fn initial_seed(&self) -> u64 {
        self.engine.seed
    }

    /// The state as PyTorch's `get_state()` returns it: 5056 bytes, little-endian.
    ///
    /// Seed (u64), outputs until the next twist (i32), a flag (i32), position (u64), 624 words
    /// (u64 each), three doubles of which the second is the cached normal, its flag (i32, padded
    /// to 8), and 8 bytes that are zero on a CPU.
    pub fn get_state(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STATE_SIZE);
        bytes.extend(self.engine.seed.to_le_bytes());
        bytes.extend(self.engine.left.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(u64::from(self.engine.next).to_le_bytes());
        for &word in &self.engine.state {
            bytes.extend(u64::from(word).to_le_bytes());
        }
        bytes.extend([0; 8]);
        bytes.extend(self.cached_normal.unwrap_or(0.0).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(u64::from(self.cached_normal.is_some()).to_le_bytes());
        bytes.resize(STATE_SIZE, 0);
        bytes
    }

    /// Continues from a state saved by [`get_state`](Self::get_state) or by PyTorch.
    ///
    /// # Errors
    /// The length is not [`STATE_SIZE`], or the bytes are no state of this generator.
    pub fn set_state(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() != STATE_SIZE {
            return Err(Error::plain(
                Kind::Value,
                format!(
                    "Expected a CPUGeneratorImplState of size {STATE_SIZE} but found the input \
                     RNG state size to be {}",
                    bytes.len()
                ),
            ));
        }
        // 632 little-endian 64-bit fields; the second holds two of 32 bits.
        let fields: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|&field| u64::from_le_bytes(field)).collect();
        let (left, seeded) = (fields[1] as u32, fields[1] >> 32 != 0);
        let next = fields[2] as u32;
        // The outputs up to the next twist must lie inside the state.
        let valid = seeded && (1..=624).contains(&left) && next <= 624 && next + left <= 625;
        if !valid {
            return Err(Error::plain(Kind::Value, "Invalid mt19937 state"));
        }
        let mut engine = Mt19937 { seed: fields[0], left, next, state: [0; 624] };
        for (word, &field) in engine.state.iter_mut().zip(&fields[3..627]) {
            *word = field as u32;
        }
        let cached_normal = (fields[630] as u32 != 0).then(|| f64::from_bits(fields[628]));
        *self = Generator { engine, cached_normal };
        Ok(())
    }
}

/// The `u64` of a seed as users may write it: from -2^63 to 2^64 - 1, negative ones wrap.
///
/// # Errors
/// The number is outside that range.
pub fn seed_from_integer(seed: i128) -> Result<u64> {
    if (i64::MIN as i128..=u64::MAX as i128).contains(&seed) {
        Ok(seed as u64)
    } else {
        Err(Error::plain(Kind::Value, "Overflow when unpacking long long"))
    }
}

/// The generator of the process, which starts from the operating system's randomness.
pub fn default_generator() -> &'static Arc<Mutex<Generator>> {
    static DEFAULT: LazyLock<Arc<Mutex<Generator>>> =
        LazyLock::new(|| Arc::new(Mutex::new(Generator::new(entropy()))));
    &DEFAULT
}

/// Calls `f` with the generator of the process. It is locked meanwhile: a call from inside `f`
/// would wait forever.
pub fn with_default<R>(f: impl FnOnce(&mut Generator) -> R) -> R {
    f(&mut default_generator().lock())
}

/// 64 bits that differ from call to call: the standard library keys its hash maps with the
/// operating system's randomness, and a hash of nothing is a function of the key.
fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A uniform number in [0, 1) from the low 24 of 32 bits.
#[inline(always)]
fn unit_f32(word: u32) -> f32 {
    // Through i32, for which vector units have a conversion.
    (word & 0x00ff_ffff) as i32 as f32 * (1.0 / (1_u32 << 24) as f32)
}

/// A uniform number in [0, 1) from the low 53 of 64 bits.
#[inline(always)]
fn unit_f64(word: u64) -> f64 {
    (word & ((1 << 53) - 1)) as i64 as f64 * (1.0 / (1_u64 << 53) as f64)
}
