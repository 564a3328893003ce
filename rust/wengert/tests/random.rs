//! Random streams against recorded results of PyTorch, and what must hold without any record.

use wengert::dispatch;
use wengert::dtype::{DType, Element};
use wengert::random::{self, Generator, STATE_SIZE, Sample};
use wengert::{Error, Result};

const GOLDEN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/random.txt"));

/// Whether the C library computes float64 functions as the one did that made the record.
const SAME_LIBM: bool = cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"));

/// Replays `tests/golden/random.txt`; the script beside it describes the format.
#[test]
fn streams_are_pytorchs() {
    let mut generator = Generator::default();
    let mut failures = Vec::new();
    for (number, line) in GOLDEN.lines().enumerate() {
        let (call, expected) = line.split_once(" =").expect("every line has a result");
        let expected = expected.trim_start();
        let words: Vec<&str> = call.split(' ').collect();
        let got = match replay(&mut generator, &words) {
            Ok(bytes) if expected.starts_with('#') => format!("#{:016x}", fnv1a(&bytes)),
            Ok(bytes) => hex(&bytes),
            Err(error) => format!("!{error}"),
        };
        if got != expected && !(libm_decides(&words) && close(&words, &got, expected)) {
            failures.push(format!("line {}: {call}\n  got  {got}\n  want {expected}", number + 1));
        }
    }
    let count = failures.len();
    failures.truncate(20);
    assert!(failures.is_empty(), "{count} differ, first:\n{}", failures.join("\n"));
}

fn replay(generator: &mut Generator, words: &[&str]) -> Result<Vec<u8>> {
    let size = |i: usize| words[i].parse::<usize>().expect("a size");
    let real = |i: usize| words[i].parse::<f64>().expect("a number");
    let integer = |i: usize| words[i].parse::<i64>().expect("an integer");
    match words[0] {
        "seed" => {
            let seed = words[1].parse().expect("a seed");
            generator.manual_seed(random::seed_from_integer(seed)?);
            return Ok(Vec::new());
        }
        "state" => return Ok(generator.get_state()),
        "permutation" => {
            let mut places = vec![0; size(1)];
            generator.permutation(&mut places);
            return Ok(memory(&places));
        }
        _ => {}
    }
    dispatch!(dtype(words[1]), T => {
        if words[0] == "each" {
            return dispatch!(dtype(words[2]), P => {
                let n = size(3);
                let p: Vec<P> = (0..n).map(|i| Sample::from_f64(i as f64 / n as f64)).collect();
                let mut out = vec![<T as Sample>::from_i64(0); n];
                generator.bernoulli_each(&mut out, &p)?;
                Ok(memory(&out))
            });
        }
        if words[0] == "multinomial" {
            let weights: Vec<T> = (0..size(2) * size(3))
                .map(|i| Sample::from_f64(((7 * i + 3) % 11) as f64 * 0.25))
                .collect();
            let replacement = words[5] == "1";
            return Ok(memory(&generator.multinomial(&weights, size(3), size(4), replacement)?));
        }
        let mut values = vec![<T as Sample>::from_i64(0); size(2)];
        let out = &mut values[..];
        match words[0] {
            "uniform" => generator.uniform(out, real(3), real(4))?,
            "normal" => generator.normal(out, real(3), real(4))?,
            "gaps" => generator.normal_one_by_one(out, real(3), real(4))?,
            "random" => generator.random(out),
            "between" => {
                let to = (words[4] != "none").then(|| integer(4));
                generator.random_from_to(out, integer(3), to)?;
            }
            "bernoulli" => generator.bernoulli(out, real(3))?,
            "exponential" => generator.exponential(out, real(3))?,
            "cauchy" => generator.cauchy(out, real(3), real(4))?,
            "log_normal" => generator.log_normal(out, real(3), real(4))?,
            "geometric" => generator.geometric(out, real(3))?,
            "dropout" => generator.dropout_mask(out, real(3))?,
            other => panic!("no call is named {other}"),
        }
        Ok(memory(&values))
    })
}

/// Whether a result may differ in its last bits on another platform.
fn libm_decides(words: &[&str]) -> bool {
    let transcendental = ["normal", "gaps", "exponential", "cauchy", "log_normal", "state"];
    !SAME_LIBM && transcendental.contains(&words[0])
}

/// Equal to 2^-40 where the record holds all values, and in the number of values.
fn close(words: &[&str], got: &str, expected: &str) -> bool {
    if expected.starts_with('#') || words[0] == "state" {
        return got.starts_with('#') == expected.starts_with('#');
    }
    let size = dtype(words[1]).size();
    got.len() == expected.len()
        && values(got, size)
            .iter()
            .zip(values(expected, size))
            .all(|(a, b)| (a - b).abs() <= b.abs().max(1.0) * tolerance(size))
}

fn tolerance(size: usize) -> f64 {
    match size {
        8 => 2.0_f64.powi(-40),
        4 => 2.0_f64.powi(-23),
        _ => 2.0_f64.powi(-7),
    }
}

fn values(hex: &str, size: usize) -> Vec<f64> {
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex digits");
    let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
    bytes
        .chunks(size)
        .map(|b| match *b {
            [b0, b1] => f32::from_le_bytes([0, 0, b0, b1]) as f64,
            [b0, b1, b2, b3] => f32::from_le_bytes([b0, b1, b2, b3]) as f64,
            _ => f64::from_le_bytes(b.try_into().expect("8 bytes")),
        })
        .collect()
}

fn dtype(name: &str) -> DType {
    DType::ALL.into_iter().find(|d| d.name() == name).expect("a dtype")
}

/// The elements in memory, little-endian.
fn memory<T: Element>(values: &[T]) -> Vec<u8> {
    use wengert::Scalar::*;
    let mut bytes = Vec::new();
    for value in values {
        match (T::DTYPE, value.to_scalar()) {
            (DType::Float64, Float(x)) => bytes.extend(x.to_le_bytes()),
            (DType::Float32, Float(x)) => bytes.extend((x as f32).to_le_bytes()),
            (DType::Float16, Float(x)) => bytes.extend(half::f16::from_f64(x).to_le_bytes()),
            (_, Float(x)) => bytes.extend(half::bf16::from_f64(x).to_le_bytes()),
            (_, Bool(b)) => bytes.push(b as u8),
            (_, Int(i)) => bytes.extend(&i.to_le_bytes()[..T::DTYPE.size()]),
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3))
}

/// Drives a generator to a state in mid-block with a cached normal.
fn used() -> Generator {
    let mut generator = Generator::new(7);
    generator.uniform(&mut [0.0_f32; 1001], 0.0, 1.0).expect("valid bounds");
    generator.normal(&mut [0.0_f32; 3], 0.0, 1.0).expect("valid std");
    generator
}

fn stream(generator: &mut Generator) -> Vec<f64> {
    let mut few = [0.0_f64; 5];
    let mut many = vec![0.0_f64; 1500];
    generator.normal(&mut few, 0.0, 1.0).expect("valid std");
    generator.normal(&mut many, 0.0, 1.0).expect("valid std");
    [few.to_vec(), many].concat()
}

#[test]
fn state_round_trips() {
    for mut original in [Generator::default(), Generator::new(u64::MAX), used()] {
        let state = original.get_state();
        assert_eq!(state.len(), STATE_SIZE);
        let mut copy = Generator::new(99);
        copy.set_state(&state).expect("a valid state");
        assert_eq!(copy.get_state(), state);
        assert_eq!(copy.initial_seed(), original.initial_seed());
        assert_eq!(stream(&mut copy), stream(&mut original));
    }
}

#[test]
fn invalid_states_are_refused_and_change_nothing() {
    let mut generator = used();
    let good = generator.get_state();
    let text = |result: Result<()>| result.expect_err("an invalid state").to_string();
    let long = [&good[..], &[0]].concat();
    assert_eq!(
        text(generator.set_state(&long)),
        "Expected a CPUGeneratorImplState of size 5056 but found the input RNG state size to be 5057"
    );
    // left = 0; not seeded; next = 769; a huge left; more left than there are.
    for (at, value) in [(8, 0_u32), (12, 0), (16, 769), (8, u32::MAX), (8, 600)] {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(text(generator.set_state(&bad)), "Invalid mt19937 state");
    }
    assert_eq!(text(generator.set_state(&[0; STATE_SIZE])), "Invalid mt19937 state");
    assert_eq!(generator.get_state(), good);
}

#[test]
fn seeds_wrap_and_end() {
    let seed = |s| random::seed_from_integer(s).map_err(|e: Error| e.to_string());
    assert_eq!(seed(-1), Ok(u64::MAX));
    assert_eq!(seed(i64::MIN as i128), Ok(1 << 63));
    assert_eq!(seed(u64::MAX as i128), Ok(u64::MAX));
    for outside in [u64::MAX as i128 + 1, i64::MIN as i128 - 1] {
        assert_eq!(seed(outside), Err("Overflow when unpacking long long".to_owned()));
    }
}

#[test]
fn seeding_clears_the_cached_normal_and_entropy_varies() {
    let mut generator = used();
    generator.manual_seed(3);
    assert_eq!(stream(&mut generator), stream(&mut Generator::new(3)));
    let first = generator.seed();
    assert_eq!(generator.initial_seed(), first);
    assert_ne!(first, generator.seed());
}

#[test]
fn the_default_generator_is_one_and_seedable() {
    let drawn = random::with_default(|g| {
        g.manual_seed(5);
        stream(g)
    });
    assert_eq!(drawn, stream(&mut Generator::new(5)));
}

/// Sample moments lie within five standard errors: fails for one seed in a million.
#[test]
fn moments_are_those_of_the_distribution() {
    const N: usize = 200_000;
    type Fill = fn(&mut Generator, &mut [f64]) -> Result<()>;
    // Name, mean, standard deviation, excess kurtosis, fill.
    let cases: [(&str, f64, f64, f64, Fill); 6] = [
        ("uniform", 0.5, 12_f64.sqrt().recip(), -1.2, |g, x| g.uniform(x, 0.0, 1.0)),
        ("normal", 3.0, 2.0, 0.0, |g, x| g.normal(x, 3.0, 2.0)),
        ("gaps", 3.0, 2.0, 0.0, |g, x| g.normal_one_by_one(x, 3.0, 2.0)),
        ("exponential", 0.5, 0.5, 6.0, |g, x| g.exponential(x, 2.0)),
        ("bernoulli", 0.25, 0.1875_f64.sqrt(), -2.0 + 1.0 / 0.1875 - 4.0, |g, x| {
            g.bernoulli(x, 0.25)
        }),
        ("geometric", 4.0, 12_f64.sqrt(), 6.0 + 1.0 / 12.0, |g, x| g.geometric(x, 0.25)),
    ];
    let mut generator = Generator::new(2024);
    for (name, mean, deviation, kurtosis, fill) in cases {
        let mut x = vec![0.0; N];
        fill(&mut generator, &mut x).expect("valid arguments");
        let n = N as f64;
        let got = x.iter().sum::<f64>() / n;
        assert!((got - mean).abs() < 5.0 * deviation / n.sqrt(), "{name}: mean {got}");
        let variance = deviation * deviation;
        let got = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let error = variance * ((kurtosis + 2.0).max(0.01) / n).sqrt();
        assert!((got - variance).abs() < 5.0 * error, "{name}: variance {got}");
    }
}
