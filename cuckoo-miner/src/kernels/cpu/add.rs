//! Sums of what a layer was given and what it made of it.
//!
//! candle's own use threads of candle's, which go on spinning for a while after each sum, beside those that compute the next
//! layer.

use candle_core::{Device, Result, Tensor, bail};

use super::lanes::widest;
use super::{MOVED, PIECE, pieces, read};

/// See [`Kernels::add`](crate::kernels::Kernels::add).
pub(super) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let ones = y.dims().iter().rev().take_while(|size| **size == 1);
    let known = y.rank() - ones.count();
    // How many numbers one of `y` is added to, where it is not one.
    let channel = match x.dims() == y.dims() {
        true => None,
        false if x.rank() == y.rank() && repeats(&x.dims()[..known], &y.dims()[..known]) => {
            Some(x.dims()[known..].iter().product::<usize>())
        }
        false => bail!("{:?} cannot be added to {:?}", y.dims(), x.dims()),
    };
    let mut out = vec![0.0; x.elem_count()];
    // Of whole channels.
    let size = channel.map_or(PIECE, |channel| channel * (PIECE / channel.max(1)).max(1));
    read([x, y], |[x, y]| {
        pieces(&mut out, size, x.len() * MOVED, |i, out| {
            let x = &x[i * size..][..out.len()];
            widest(
                #[inline(always)]
                || match channel {
                    None => {
                        let sums = x.iter().zip(&y[i * size..]);
                        out.iter_mut()
                            .zip(sums)
                            .for_each(|(out, (x, y))| *out = x + y);
                    }
                    Some(channel) => {
                        let channels = out.chunks_exact_mut(channel).zip(x.chunks_exact(channel));
                        let shifts = y.iter().cycle().skip(i * size / channel % y.len());
                        for ((out, x), y) in channels.zip(shifts) {
                            out.iter_mut().zip(x).for_each(|(out, x)| *out = x + y);
                        }
                    }
                },
            );
        });
        Ok(())
    })?;
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// Whether numbers of `shape` are as many as those of `whole`, or one batch of them where those are several.
fn repeats(whole: &[usize], shape: &[usize]) -> bool {
    match (whole, shape) {
        ([_, whole @ ..], [1, shape @ ..]) => whole == shape,
        _ => whole == shape,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        let count = shape.iter().product();
        let data = (0..count).map(|i| ((i * 37 + seed) % 101) as f32 / 7.0 - 6.0);
        Tensor::from_vec(data.collect(), shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn agrees_with_candle() {
        for (x, y) in [
            (vec![3, 7], vec![3, 7]),
            (vec![2, 5, 3, 4], vec![2, 5, 1, 1]),
            (vec![2, 3, 130, 131], vec![2, 3, 1, 1]),
            (vec![2, 600, 701], vec![2, 600, 701]),
            (vec![1, 4, 1, 1], vec![1, 4, 1, 1]),
            (vec![3, 5, 6, 4], vec![1, 5, 1, 1]),
            (vec![2, 300, 8, 9], vec![1, 300, 1, 1]),
            (vec![2, 6], vec![2, 1]),
            (vec![2, 6, 1], vec![1, 6, 1]),
            (vec![3, 6], vec![1, 1]),
            (vec![0, 4], vec![0, 4]),
        ] {
            let (x, y) = (tensor(&x, 1), tensor(&y, 5));
            let expected = x.broadcast_add(&y).unwrap();
            let values = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values(add(&x, &y).unwrap()) == values(expected), "{x:?}");
        }
    }

    #[test]
    fn misfits_are_refused() {
        for (x, y) in [
            (vec![3, 7], vec![7, 3]),
            (vec![3, 7], vec![7]),
            (vec![2, 5, 3, 4], vec![2, 1, 3, 4]),
            (vec![1, 1], vec![2, 2]),
        ] {
            assert!(add(&tensor(&x, 1), &tensor(&y, 1)).is_err(), "{x:?} {y:?}");
        }
    }
}
