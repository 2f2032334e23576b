//! Rotary position embedding.

use candle_core::{Device, Result, Tensor, bail};

use super::{PIECE, pieces, read};

/// See [`Kernels::rotate`](crate::kernels::Kernels::rotate).
pub(super) fn rotate(x: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let (_, half) = cos.dims2()?;
    let depth = width / heads.max(1);
    if cos.dims() != [rows, half]
        || sin.dims() != cos.dims()
        || heads * depth != width
        || half * 2 > depth
        || width == 0
    {
        bail!(
            "a rotation of {heads} heads by {:?} does not fit {:?}",
            cos.dims(),
            x.dims()
        );
    }
    let mut out = vec![0.0; rows * width];
    let step = (PIECE / width).max(1);
    read([x, cos, sin], |[x, cos, sin]| {
        pieces(&mut out, step * width, x.len() * 2, |i, out| {
            for (row, out) in (i * step..).zip(out.chunks_exact_mut(width)) {
                let x = &x[row * width..][..width];
                let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
                for (x, out) in x.chunks_exact(depth).zip(out.chunks_exact_mut(depth)) {
                    for i in 0..half {
                        let (a, b) = (x[i], x[i + half]);
                        out[i] = a * cos[i] - b * sin[i];
                        out[i + half] = b * cos[i] + a * sin[i];
                    }
                    out[half * 2..].copy_from_slice(&x[half * 2..]);
                }
            }
        });
        Ok(())
    })?;
    Tensor::from_vec(out, (rows, width), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(rows: usize, width: usize, seed: usize) -> Tensor {
        let data: Vec<f32> = (0..rows * width)
            .map(|i| ((i * 29 + seed * 13) % 19) as f32 / 6.0 - 1.5)
            .collect();
        Tensor::from_vec(data, (rows, width), &Device::Cpu).unwrap()
    }

    /// candle's own operations are the oracle: x cos + (-b, a) sin.
    #[test]
    fn agrees_with_candle() {
        for (rows, heads, depth, rotated) in [(1, 1, 2, 2), (5, 3, 8, 8), (4, 2, 10, 6)] {
            let half = rotated / 2;
            let x = tensor(rows, heads * depth, 1);
            let (cos, sin) = (tensor(rows, half, 2), tensor(rows, half, 3));
            let got = rotate(&x, heads, &cos, &sin).unwrap();
            let by_head = x.reshape((rows, heads, depth)).unwrap();
            let part = |from, length| by_head.narrow(2, from, length).unwrap();
            let (a, b) = (part(0, half), part(half, half));
            let wide = |x: &Tensor| x.reshape((rows, 1, half)).unwrap();
            let times = |x: &Tensor, by: &Tensor| x.broadcast_mul(&wide(by)).unwrap();
            let first = (times(&a, &cos) - times(&b, &sin)).unwrap();
            let second = (times(&b, &cos) + times(&a, &sin)).unwrap();
            let rest = part(rotated, depth - rotated);
            let expected = Tensor::cat(&[first, second, rest], 2).unwrap();
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&got), values(&expected));
        }
    }

    #[test]
    fn misfits_are_refused() {
        let x = tensor(2, 12, 1);
        let angles = |rows, half| tensor(rows, half, 2);
        assert!(rotate(&x, 5, &angles(2, 1), &angles(2, 1)).is_err());
        assert!(rotate(&x, 0, &angles(2, 1), &angles(2, 1)).is_err());
        assert!(rotate(&x, 3, &angles(2, 3), &angles(2, 3)).is_err());
        assert!(rotate(&x, 3, &angles(1, 2), &angles(1, 2)).is_err());
        assert!(rotate(&x, 3, &angles(2, 2), &angles(2, 1)).is_err());
    }
}
