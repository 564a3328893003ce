//! A million draws: `cargo bench -p wengert --bench random`.

use divan::Bencher;
use divan::counter::ItemsCount;
use wengert::Result;
use wengert::random::{Generator, Sample};

const N: usize = 1_000_000;

fn main() {
    divan::main();
}

fn fill<T: Sample>(bencher: Bencher, draw: impl Fn(&mut Generator, &mut [T]) -> Result<()>) {
    let mut generator = Generator::new(0);
    let mut out = vec![T::from_i64(0); N];
    bencher
        .counter(ItemsCount::new(N))
        .bench_local(|| draw(&mut generator, &mut out).expect("valid arguments"));
}

#[divan::bench(types = [half::f16, half::bf16, f32, f64])]
fn rand<T: Sample>(bencher: Bencher) {
    fill::<T>(bencher, |g, x| g.uniform(x, 0.0, 1.0));
}

#[divan::bench(types = [half::f16, half::bf16, f32, f64])]
fn randn<T: Sample>(bencher: Bencher) {
    fill::<T>(bencher, |g, x| g.normal(x, 0.0, 1.0));
}

#[divan::bench]
fn randn_one_by_one(bencher: Bencher) {
    fill::<f32>(bencher, |g, x| g.normal_one_by_one(x, 0.0, 1.0));
}

#[divan::bench(args = [100, 1 << 40])]
fn randint(bencher: Bencher, high: i64) {
    fill::<i64>(bencher, |g, x| g.random_from_to(x, 0, Some(high)));
}

#[divan::bench]
fn dropout(bencher: Bencher) {
    fill::<f32>(bencher, |g, x| g.dropout_mask(x, 0.5));
}

#[divan::bench]
fn exponential(bencher: Bencher) {
    fill::<f32>(bencher, |g, x| g.exponential(x, 1.0));
}

#[divan::bench]
fn randperm(bencher: Bencher) {
    fill::<i64>(bencher, |g, x| {
        g.permutation(x);
        Ok(())
    });
}
