//! Attention within whole texts, many of different lengths at once and none of them padded.

use candle_core::{Device, Result, Tensor, bail};

use super::attend::{self, Bias, Page, Sight, Text};
use super::dot::Rows;
use super::read_spans;
use crate::kernels::Heads;

/// Keys whose scores are held at a time; part of the arithmetic.
const PAGE: usize = 64;

/// See [`Kernels::attend_all`](crate::kernels::Kernels::attend_all); `tensors` are q, k and v.
pub(super) fn attend_all(
    tensors: [&Tensor; 3],
    lengths: &[usize],
    heads: Heads,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let [q, k, v] = tensors;
    let (rows, width) = q.dims2()?;
    let Heads {
        queries,
        keys,
        depth,
        window,
        ..
    } = heads;
    let most = lengths.iter().copied().max().unwrap_or(0);
    let longest = match bias.map(|bias| bias.dims()) {
        None => Some(most),
        Some([heads, distances]) if *heads == queries && distances % 2 == 1 => {
            Some(distances.div_ceil(2))
        }
        Some(_) => None,
    };
    let inner = keys * depth;
    if inner == 0
        || width == 0
        || !queries.is_multiple_of(keys.max(1))
        || width != queries * depth
        || k.dims() != [rows, inner]
        || v.dims() != [rows, inner]
        || lengths.contains(&0)
        || lengths.iter().sum::<usize>() != rows
        || window.is_some()
        || longest.is_none_or(|longest| longest < most)
    {
        bail!(
            "attention with {heads:?} among {lengths:?} rows does not fit q {:?}, k {:?}, v {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let mut tensors = vec![q, k, v];
    tensors.extend(&bias);
    let out = read_rows(&tensors, |all| {
        let (q, k, v) = (all[0], all[1], all[2]);
        let mut texts = Vec::with_capacity(lengths.len());
        let mut first = 0;
        for length in lengths {
            let pages = (0..*length).step_by(PAGE).map(|at| {
                let here = PAGE.min(length - at);
                Page {
                    keys: k.part(first + at, here),
                    values: v.part(first + at, here),
                }
            });
            texts.push(Text {
                start: 0,
                rows: *length,
                pages: pages.collect(),
            });
            first += length;
        }
        let bias = all.get(3).zip(longest).map(|(bias, longest)| Bias {
            numbers: bias.data,
            longest,
        });
        Ok(attend::attend(q, &texts, PAGE, Sight::All(bias), heads))
    })?;
    Tensor::from_vec(out, (rows, width), &Device::Cpu)
}

/// Calls `f` with the rows of each tensor, `[rows, width]`: in place, where they are parts of wider ones as well.
fn read_rows<R>(tensors: &[&Tensor], f: impl FnOnce(&[Rows<'_>]) -> Result<R>) -> Result<R> {
    let tensors = tensors
        .iter()
        .map(|tensor| match tensor.stride() {
            [step, 1] if *step >= tensor.dim(1)? => Ok((*tensor).clone()),
            _ => tensor.contiguous(),
        })
        .collect::<Result<Vec<_>>>()?;
    let layouts = tensors
        .iter()
        .map(|tensor| {
            let (count, width) = tensor.dims2()?;
            // A single row may have any step.
            Ok((count, tensor.stride()[0].max(width)))
        })
        .collect::<Result<Vec<_>>>()?;
    read_spans(&tensors, |spans| {
        let rows = spans.iter().zip(layouts);
        let rows: Vec<_> = rows
            .map(|(data, (count, step))| Rows { data, step, count })
            .collect();
        f(&rows)
    })
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

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// candle's own operations are the oracle: all scores, shifted, through its softmax.
    fn expected([q, k, v]: [&Tensor; 3], heads: Heads, bias: Option<&Tensor>) -> Vec<f32> {
        let (rows, _) = q.dims2().unwrap();
        let mut columns = Vec::new();
        for head in 0..heads.queries {
            let key = head / (heads.queries / heads.keys);
            let part = |x: &Tensor, head| x.narrow(1, head * heads.depth, heads.depth).unwrap();
            let scores = part(q, head).matmul(&part(k, key).t().unwrap()).unwrap();
            let mut scores = (scores * f64::from(heads.scale)).unwrap();
            if let Some(bias) = bias {
                let bias: Vec<Vec<f32>> = bias.to_vec2().unwrap();
                let middle = bias[head].len() / 2;
                let shift: Vec<f32> = (0..rows * rows)
                    .map(|i| bias[head][middle + i % rows - i / rows])
                    .collect();
                let shift = Tensor::from_vec(shift, (rows, rows), &Device::Cpu).unwrap();
                scores = (scores + shift).unwrap();
            }
            let top = scores.max_keepdim(1).unwrap();
            let chances = scores.broadcast_sub(&top).unwrap().exp().unwrap();
            let total = chances.sum_keepdim(1).unwrap();
            let chances = chances.broadcast_div(&total).unwrap();
            columns.push(chances.matmul(&part(v, key).contiguous().unwrap()).unwrap());
        }
        values(&Tensor::cat(&columns, 1).unwrap())
    }

    #[test]
    fn follows_its_definition_alone_and_among_others() {
        let lengths = [1, 64, 7, 200, 65, 33];
        let total = lengths.iter().sum();
        for (queries, keys, depth, shifted) in [
            (1, 1, 3, false),
            (4, 2, 8, false),
            (6, 6, 20, true),
            (3, 3, 64, false),
            (4, 1, 90, true),
        ] {
            let heads = Heads {
                queries,
                keys,
                depth,
                scale: 0.3,
                window: None,
            };
            let bias = shifted.then(|| tensor(queries, 2 * 211 - 1, 5));
            let bias = bias.as_ref();
            let q = tensor(total, queries * depth, 1);
            let (k, v) = (
                tensor(total, keys * depth, 2),
                tensor(total, keys * depth, 3),
            );
            let together = values(&attend_all([&q, &k, &v], &lengths, heads, bias).unwrap());
            let mut first = 0;
            for length in lengths {
                let own = [&q, &k, &v].map(|x| x.narrow(0, first, length).unwrap());
                let own = own.each_ref();
                let alone = values(&attend_all(own, &[length], heads, bias).unwrap());
                for (got, expected) in alone.iter().zip(expected(own, heads, bias)) {
                    assert!((got - expected).abs() < 2e-5, "{heads:?}: {got} {expected}");
                }
                let width = queries * depth;
                let among = &together[first * width..(first + length) * width];
                assert_eq!(among, alone, "the same bits in company");
                first += length;
            }
        }
    }

    #[test]
    fn rows_may_be_parts_of_wider_ones_or_have_any_step() {
        let heads = Heads {
            queries: 2,
            keys: 2,
            depth: 5,
            scale: 0.3,
            window: None,
        };
        let all = tensor(70, 30, 1);
        let parts = [0, 10, 20].map(|from| all.narrow(1, from, 10).unwrap());
        let dense = parts.each_ref().map(|part| part.contiguous().unwrap());
        let run = |[q, k, v]: [&Tensor; 3], lengths: &[usize]| {
            values(&attend_all([q, k, v], lengths, heads, None).unwrap())
        };
        let expected = run(dense.each_ref(), &[3, 67]);
        assert_eq!(run(parts.each_ref(), &[3, 67]), expected);
        // Turned, and one row again and again.
        let turned = dense
            .each_ref()
            .map(|part| part.t().unwrap().contiguous().unwrap());
        let turned = turned.each_ref().map(|part| part.t().unwrap());
        assert_eq!(run(turned.each_ref(), &[3, 67]), expected);
        let one = dense.each_ref().map(|part| part.get(0).unwrap());
        let repeated = one.each_ref().map(|row| row.broadcast_as((4, 10)).unwrap());
        let copied = repeated.each_ref().map(|part| part.contiguous().unwrap());
        assert_eq!(run(repeated.each_ref(), &[4]), run(copied.each_ref(), &[4]));
        for single in [
            one.each_ref().map(|row| row.unsqueeze(0).unwrap()),
            one.each_ref().map(|row| row.broadcast_as((1, 10)).unwrap()),
        ] {
            assert_eq!(run(single.each_ref(), &[1]), values(&one[2]));
        }
        let none = all.narrow(0, 0, 0).unwrap();
        let none = [0, 10, 20].map(|from| none.narrow(1, from, 10).unwrap());
        assert!(run(none.each_ref(), &[]).is_empty());
    }

    #[test]
    fn misfits_are_refused() {
        let heads = Heads {
            queries: 4,
            keys: 2,
            depth: 3,
            scale: 1.0,
            window: None,
        };
        let (q, k) = (tensor(5, 12, 1), tensor(5, 6, 1));
        let run = |lengths: &[usize], heads, bias: Option<&Tensor>| {
            attend_all([&q, &k, &k], lengths, heads, bias)
        };
        let bias = |heads, distances| tensor(heads, distances, 1);
        assert!(run(&[2, 3], heads, Some(&bias(4, 5))).is_ok());
        assert!(run(&[2, 2], heads, None).is_err());
        assert!(run(&[5, 0], heads, None).is_err());
        assert!(run(&[2, 3], heads, Some(&bias(4, 3))).is_err());
        assert!(run(&[2, 3], heads, Some(&bias(2, 5))).is_err());
        for wrong in [
            Heads { keys: 3, ..heads },
            Heads { keys: 0, ..heads },
            Heads { depth: 4, ..heads },
            Heads {
                window: Some(9),
                ..heads
            },
        ] {
            assert!(run(&[5], wrong, None).is_err(), "{wrong:?}");
        }
    }
}
