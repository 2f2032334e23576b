use super::*;
use crate::kernels::cpu::lanes::{Job, Plain, dispatch};

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 31 + seed * 17) % 101) as f32 / 37.0 - 1.3)
        .collect()
}

struct Products<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    inner: usize,
    out: &'a mut [f32],
}

impl Job for Products<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let rows = |data: &'_ [f32]| data.len() / self.inner;
        let (step, count) = (rows(self.weight), rows(self.x));
        let x = Rows {
            data: self.x,
            step: self.inner,
            count,
        };
        let weight = Rows {
            data: self.weight,
            step: self.inner,
            count: step,
        };
        let mut grid = Grid {
            out: self.out,
            step,
        };
        products::<R>(x, weight, self.inner, &mut grid);
    }
}

fn run(x: &[f32], weight: &[f32], inner: usize, plain: bool) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / inner * (weight.len() / inner)];
    let job = Products {
        x,
        weight,
        inner,
        out: &mut out,
    };
    if plain {
        job.run::<Plain>();
    } else {
        dispatch(job);
    }
    out
}

#[test]
fn every_instruction_set_gives_the_same_bits_and_the_right_ones() {
    for (rows, outputs, inner) in [(1, 9, 64), (5, 7, 50), (8, 8, 16), (7, 30, 33), (9, 7, 110)] {
        let (x, weight) = (numbers(rows * inner, 1), numbers(outputs * inner, 2));
        let got = run(&x, &weight, inner, false);
        assert_eq!(got, run(&x, &weight, inner, true));
        for (i, x) in x.chunks_exact(inner).enumerate() {
            for (j, weight) in weight.chunks_exact(inner).enumerate() {
                let terms = x.iter().zip(weight);
                let terms = terms.map(|(a, b)| f64::from(*a) * f64::from(*b));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| {
                    (sum + term, size + term.abs())
                });
                let gap = f64::from(got[i * outputs + j]) - sum;
                assert!(gap.abs() < size * 1e-6, "{rows} {outputs} {inner}: {gap}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    let (rows, outputs, inner) = (11, 40, 123);
    let (x, weight) = (numbers(rows * inner, 1), numbers(outputs * inner, 2));
    let all = run(&x, &weight, inner, false);
    for i in 0..rows {
        for count in 1..=rows - i {
            let some = run(&x[i * inner..(i + count) * inner], &weight, inner, false);
            assert_eq!(some, all[i * outputs..(i + count) * outputs]);
        }
    }
}
