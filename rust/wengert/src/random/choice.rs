//! Permutations and draws of indices.

use super::integers::value;
use super::{Generator, Sample, unit_f64};
use crate::dtype::DType;
use crate::error::Result;
use std::cmp::Ordering;

/// From this length on, 32 bits would favour some permutations noticeably.
const LONG: usize = u32::MAX as usize / 20;

impl Generator {
    /// The integers below the length of `out` in random order: `randperm`.
    ///
    /// The shuffle of Fisher and Yates as Durstenfeld gives it (CACM 7(7), 1964), from the front;
    /// for more than 2 * 10^8 places the "inside-out" form with 64-bit draws.
    ///
    /// ```
    /// # use wengert::random::Generator;
    /// let mut places = [0; 8];
    /// Generator::new(0).permutation(&mut places);
    /// assert_eq!(places, [4, 0, 7, 3, 2, 5, 1, 6]);
    /// ```
    pub fn permutation(&mut self, out: &mut [i64]) {
        let n = out.len();
        if n >= LONG {
            return self.inside_out(out);
        }
        for (i, place) in out.iter_mut().enumerate() {
            *place = i as i64;
        }
        let mut words = [0; 256];
        let last = n.saturating_sub(1);
        for start in (0..last).step_by(words.len()) {
            let words = &mut words[..(last - start).min(256)];
            self.engine.fill(words);
            for (i, word) in (start..).zip(words) {
                out.swap(i, i + *word as usize % (n - i));
            }
        }
    }

    fn inside_out(&mut self, out: &mut [i64]) {
        for i in 0..out.len() {
            let j = (self.engine.next_u64() % (i as u64 + 1)) as usize;
            out[i] = i as i64;
            out.swap(i, j);
        }
    }

    /// `samples` indices per row of `weights`, a matrix of `categories` columns in row-major
    /// order, each with probability proportional to its weight: `multinomial`.
    ///
    /// With replacement, an index is where the running sum of the row reaches a uniform draw.
    /// Without, or for a single sample, indices are those of the largest `weight / e` with
    /// exponential `e` (P. Efraimidis, P. Spirakis, Inf. Process. Lett. 97(5), 2006); equal
    /// quotients, as those of zero weights, come in order of the index.
    ///
    /// # Errors
    /// `T` is not floating; `samples` is 0 or, without replacement, exceeds `categories`; a weight
    /// is negative, infinite or NaN; a row sums to zero; the result does not fit in memory.
    pub fn multinomial<T: Sample>(
        &mut self,
        weights: &[T],
        categories: usize,
        samples: usize,
        replacement: bool,
    ) -> Result<Vec<i64>> {
        if !T::DTYPE.is_floating() {
            return Err(value(format!(
                "multinomial only supports floating-point dtypes for input, got: {}",
                T::DTYPE.scalar_type_name()
            )));
        }
        if samples == 0 {
            return Err(value("cannot sample n_sample <= 0 samples".into()));
        }
        if !replacement && samples > categories {
            return Err(value(
                "cannot sample n_sample > prob_dist.size(-1) samples without replacement".into(),
            ));
        }
        if weights.is_empty() {
            return Ok(Vec::new());
        }
        if categories == 0 || !weights.len().is_multiple_of(categories) {
            let length = weights.len();
            crate::bail!(Shape, "multinomial", "{length} weights in rows of {categories}");
        }
        let replaced = replacement && samples > 1;
        if let Some(bad) =
            weights.iter().map(|w| w.to_f64()).find(|w| !(0.0..f64::INFINITY).contains(w))
        {
            return Err(value(match (replaced, bad == f64::INFINITY) {
                (false, _) => {
                    "probability tensor contains either `inf`, `nan` or element < 0".into()
                }
                (true, true) => "invalid multinomial distribution (encountering probability entry \
                     = infinity or NaN)"
                    .into(),
                (true, false) => {
                    "invalid multinomial distribution (encountering probability entry < 0)".into()
                }
            }));
        }
        if weights.chunks(categories).any(|row| row.iter().all(|w| w.to_f64() == 0.0)) {
            return Err(value(
                "invalid multinomial distribution (sum of probabilities <= 0)".into(),
            ));
        }
        let mut indices = Vec::new();
        let rows = weights.len() / categories;
        let reserved = rows.checked_mul(samples).map(|n| indices.try_reserve_exact(n));
        if !matches!(reserved, Some(Ok(()))) {
            crate::bail!(Memory, "multinomial", "no memory for {rows} x {samples} indices");
        }
        if replaced {
            self.with_replacement(weights, categories, samples, &mut indices);
        } else {
            self.largest_quotients(weights, categories, samples, &mut indices)?;
        }
        Ok(indices)
    }

    fn with_replacement<T: Sample>(
        &mut self,
        weights: &[T],
        categories: usize,
        samples: usize,
        indices: &mut Vec<i64>,
    ) {
        let mut reached = vec![0.0; categories];
        for row in weights.chunks(categories) {
            running_sums(row, &mut reached);
            for _ in 0..samples {
                let u = unit_f64(self.engine.next_u64());
                indices.push(reached.partition_point(|&sum| sum < u) as i64);
            }
        }
    }

    fn largest_quotients<T: Sample>(
        &mut self,
        weights: &[T],
        categories: usize,
        samples: usize,
        indices: &mut Vec<i64>,
    ) -> Result<()> {
        let mut draws = weights.to_vec();
        self.exponential(&mut draws, 1.0)?;
        for (row, draws) in weights.chunks(categories).zip(draws.chunks(categories)) {
            let quotients: Vec<f64> = row.iter().zip(draws).map(|(w, e)| divide(*w, *e)).collect();
            let mut order: Vec<i64> = (0..categories as i64).collect();
            // NaN, which 0 / 0 gives, counts as largest, like in `topk`.
            let rank = |i: i64| (quotients[i as usize].is_nan(), quotients[i as usize]);
            order.sort_by(|&i, &j| rank(j).partial_cmp(&rank(i)).unwrap_or(Ordering::Equal));
            indices.extend(&order[..samples]);
        }
        Ok(())
    }
}

/// The running sums of a row, over their last, in the type's precision; float32 for half.
fn running_sums<T: Sample>(row: &[T], sums: &mut [f64]) {
    if T::DTYPE == DType::Float64 {
        let mut sum = 0.0;
        for (s, w) in sums.iter_mut().zip(row) {
            sum += w.to_f64();
            *s = sum;
        }
        sums.iter_mut().for_each(|s| *s /= sum);
    } else {
        let mut sum = 0.0_f32;
        for (s, w) in sums.iter_mut().zip(row) {
            sum += w.to_f64() as f32;
            *s = sum as f64;
        }
        sums.iter_mut().for_each(|s| *s = (*s as f32 / sum) as f64);
    }
    if let Some(last) = sums.last_mut() {
        *last = 1.0;
    }
}

/// A quotient rounded to the type.
fn divide<T: Sample>(a: T, b: T) -> f64 {
    match T::DTYPE {
        DType::Float64 => a.to_f64() / b.to_f64(),
        _ => T::from_f32(a.to_f64() as f32 / b.to_f64() as f32).to_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_permutations_are_permutations() {
        let mut places = [0; 1000];
        Generator::new(3).inside_out(&mut places);
        assert!(places.windows(2).any(|w| w[0] > w[1]));
        places.sort_unstable();
        assert!(places.iter().enumerate().all(|(i, &p)| i as i64 == p));
    }

    #[test]
    fn sizes_beyond_memory_are_errors() {
        let result = Generator::new(0).multinomial(&[1.0_f32; 4], 2, usize::MAX / 2, true);
        assert_eq!(result.expect_err("no memory").kind(), crate::Kind::Memory);
    }

    #[test]
    fn weights_that_are_no_weights_are_refused() {
        let text = |weights: [f32; 2], samples| {
            let result = Generator::new(0).multinomial(&weights, 2, samples, true);
            result.expect_err("no weights").to_string()
        };
        let any = "probability tensor contains either `inf`, `nan` or element < 0";
        let zero = "invalid multinomial distribution (sum of probabilities <= 0)";
        let negative = "invalid multinomial distribution (encountering probability entry < 0)";
        let infinite =
            "invalid multinomial distribution (encountering probability entry = infinity or NaN)";
        for (weight, one, several) in [
            (-1.0, any, negative),
            (f32::NAN, any, negative),
            (f32::INFINITY, any, infinite),
            (0.0, zero, zero),
        ] {
            assert_eq!(text([0.0, weight], 1), one);
            assert_eq!(text([0.0, weight], 3), several);
        }
    }
}
