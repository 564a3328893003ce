//! Uniform integers: the remainder of a draw by the size of the range.
//!
//! The remainder favours small values slightly, by at most 2^-4 for the largest range that takes
//! 32 bits; PyTorch accepts that, and so its streams are these.

use super::engine::join;
use super::isa::{self, Kernel};
use super::{Generator, Mt19937, Sample};
use crate::dtype::{Category, DType};
use crate::error::{Error, Kind, Result};

/// From this size on, a draw takes 64 bits.
const WIDE: u64 = 1 << 28;

impl Generator {
    /// `random_()`: integers from 0 to the greatest value of the type; for floating types, to the
    /// greatest up to which all integers are representable. bool: 0 or 1.
    pub fn random<T: Sample>(&mut self, out: &mut [T]) {
        match T::DTYPE {
            // 2^63 divides 2^64: the remainder is a mask.
            DType::Int64 => self.draw64(out, |r| T::from_i64((r & i64::MAX as u64) as i64)),
            DType::Float64 => self.draw64(out, |r| T::from_i64((r % ((1 << 53) + 1)) as i64)),
            dtype if dtype.is_floating() => {
                let remainder = Remainder::new((1 << T::DIGITS) + 1);
                self.draw32(out, move |r| T::from_i64(remainder.of(r) as i64));
            }
            _ => {
                let mask = T::limits().1 as u32;
                self.draw32(out, move |r| T::from_i64((r & mask) as i64));
            }
        }
    }

    /// `random_(from, to)` and `randint(from, to)`: integers in [`from`, `to`); without `to`, up
    /// to the greatest value as in [`random`](Self::random), and from `i64::MIN` all 64 bits.
    ///
    /// For floating types the bounds move inwards to values that survive the conversion.
    ///
    /// # Errors
    /// The range is empty, or a bound is not representable in the type.
    ///
    /// ```
    /// # use wengert::random::Generator;
    /// let mut x = [0_i64; 5];
    /// Generator::new(0).random_from_to(&mut x, 0, Some(10))?;
    /// assert_eq!(x, [4, 9, 3, 0, 3]);
    /// # Ok::<(), wengert::Error>(())
    /// ```
    pub fn random_from_to<T: Sample>(
        &mut self,
        out: &mut [T],
        from: i64,
        to: Option<i64>,
    ) -> Result<()> {
        let dtype = T::DTYPE;
        let (from, last) = match to {
            Some(to) => bounds::<T>(from, to)?,
            None if from == i64::MIN => return self.all_bits(out),
            None if dtype.is_floating() => {
                let from = raise::<T>(from);
                let last = 1 << T::DIGITS;
                if from >= last {
                    return Err(value(format!(
                        "random_ expects 'from' casted to dtype to be less than or equal to \
                         'to_inc' casted to dtype, but got from={from} > to_inc={last}"
                    )));
                }
                (from, last)
            }
            None if dtype == DType::Int64 => (from, i64::MAX),
            None => (from, T::limits().1 as i64),
        };
        check_representable::<T>(from, "from")?;
        check_representable::<T>(last, "to - 1")?;
        // Never zero: the full 64-bit range was dealt with, so `last - from` is no `u64::MAX`.
        let range = (last as u64).wrapping_sub(from as u64) + 1;
        if range >= WIDE {
            self.draw64(out, move |r| T::from_i64((r % range).wrapping_add(from as u64) as i64));
        } else {
            let remainder = Remainder::new(range as u32);
            self.draw32(out, move |r| T::from_i64(remainder.of(r) as i64 + from));
        }
        Ok(())
    }

    fn all_bits<T: Sample>(&mut self, out: &mut [T]) -> Result<()> {
        const KERNEL: &str = "random_full_64_bits_range_kernel_cpu";
        match T::DTYPE {
            DType::Int64 | DType::Float64 | DType::Float32 | DType::BFloat16 => {
                self.draw64(out, |r| T::from_i64(r as i64));
                Ok(())
            }
            DType::Bool | DType::Float16 => Err(unsupported(KERNEL, T::DTYPE)),
            _ => Err(Error::plain(
                Kind::DType,
                format!("{KERNEL} handles only int64, double, float and bfloat16"),
            )),
        }
    }

    /// Fills with `f` of 32 bits each.
    pub(super) fn draw32<T, F: Fn(u32) -> T>(&mut self, out: &mut [T], f: F) {
        isa::run(Draw32 { engine: &mut self.engine, out, f });
    }

    /// Fills with `f` of 64 bits each.
    pub(super) fn draw64<T, F: Fn(u64) -> T>(&mut self, out: &mut [T], f: F) {
        isa::run(Draw64 { engine: &mut self.engine, out, f });
    }
}

struct Draw32<'a, T, F> {
    engine: &'a mut Mt19937,
    out: &'a mut [T],
    f: F,
}

impl<T, F: Fn(u32) -> T> Kernel for Draw32<'_, T, F> {
    #[inline(always)]
    fn run(self) {
        let mut words = [0; 512];
        for outs in self.out.chunks_mut(words.len()) {
            let words = &mut words[..outs.len()];
            self.engine.fill(words);
            for (o, &word) in outs.iter_mut().zip(&*words) {
                *o = (self.f)(word);
            }
        }
    }
}

struct Draw64<'a, T, F> {
    engine: &'a mut Mt19937,
    out: &'a mut [T],
    f: F,
}

impl<T, F: Fn(u64) -> T> Kernel for Draw64<'_, T, F> {
    #[inline(always)]
    fn run(self) {
        let mut words = [0; 512];
        for outs in self.out.chunks_mut(words.len() / 2) {
            let words = &mut words[..outs.len() * 2];
            self.engine.fill(words);
            for (o, &pair) in outs.iter_mut().zip(words.as_chunks::<2>().0) {
                *o = (self.f)(join(pair));
            }
        }
    }
}

/// Remainders by one divisor, without division: D. Lemire, O. Kaser, N. Kurz, "Faster remainder
/// by direct computation", Software: Practice and Experience 49(6), 2019. Exact for 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Remainder {
    divisor: u32,
    /// 2^64 / divisor, rounded up; 0 for 1.
    reciprocal: u64,
}

impl Remainder {
    pub(super) fn new(divisor: u32) -> Self {
        Remainder { divisor, reciprocal: (u64::MAX / divisor as u64).wrapping_add(1) }
    }

    #[inline(always)]
    pub(super) fn of(self, x: u32) -> u32 {
        let fraction = self.reciprocal.wrapping_mul(x as u64);
        ((fraction as u128 * self.divisor as u128) >> 64) as u32
    }
}

/// The first and last integer of [`from`, `to`) as the type has them.
fn bounds<T: Sample>(from: i64, to: i64) -> Result<(i64, i64)> {
    if from >= to {
        return Err(value(format!(
            "random_ expects 'from' to be less than 'to', but got from={from} >= to={to}"
        )));
    }
    if !T::DTYPE.is_floating() {
        return Ok((from, to - 1));
    }
    let (from, to) = (raise::<T>(from), lower::<T>(to));
    if from >= to {
        return Err(value(format!(
            "random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, but \
             got from={from} >= to={to}"
        )));
    }
    Ok((from, to - 1))
}

/// Moves a lower bound up if rounding could fall below it.
fn raise<T: Sample>(from: i64) -> i64 {
    let above = from.wrapping_add(1);
    let rounded = truncate(T::from_i64(above));
    if rounded >= from { from } else { rounded.wrapping_add(spacing::<T>(above)) }
}

/// Moves an upper bound down if rounding could reach it.
fn lower<T: Sample>(to: i64) -> i64 {
    let rounded = truncate(T::from_i64(to - 1));
    if rounded < to { to } else { rounded.wrapping_sub(spacing::<T>(to - 1)) }
}

/// The distance of neighbouring values of `T` near `x`, which exceeds its exact range.
fn spacing<T: Sample>(x: i64) -> i64 {
    let exponent = x.unsigned_abs().checked_ilog2().unwrap_or(0);
    1_i64.checked_shl((exponent + 1).saturating_sub(T::DIGITS)).unwrap_or(0)
}

/// The conversion to a 64-bit integer as x86-64 does it: everything out of range is `i64::MIN`.
fn truncate<T: Sample>(x: T) -> i64 {
    let x = x.to_f64();
    if (-(2.0_f64.powi(63))..2.0_f64.powi(63)).contains(&x) { x as i64 } else { i64::MIN }
}

fn check_representable<T: Sample>(bound: i64, name: &str) -> Result<()> {
    let representable = match T::DTYPE.category() {
        Category::Floating => {
            let (least, greatest) = T::limits();
            (least..=greatest).contains(&(bound as f64))
        }
        _ if T::DTYPE == DType::Int64 => true,
        _ => {
            let (least, greatest) = T::limits();
            (least as i64..=greatest as i64).contains(&bound)
        }
    };
    if representable {
        Ok(())
    } else {
        Err(value(format!("{name} is out of bounds for {}", T::CPP_NAME)))
    }
}

/// An error about an argument's value, in PyTorch's words.
pub(super) fn value(detail: String) -> Error {
    Error::plain(Kind::Value, detail)
}

/// PyTorch's sentence for a kernel without this type.
pub(super) fn unsupported(kernel: &str, dtype: DType) -> Error {
    let name = dtype.scalar_type_name();
    Error::plain(Kind::Unsupported, format!("\"{kernel}\" not implemented for '{name}'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn remainder_is_the_operators(x: u32, divisor in 1_u32..) {
            prop_assert_eq!(Remainder::new(divisor).of(x), x % divisor);
        }
    }
}
