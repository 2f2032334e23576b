//! Attention over keys and values kept in pages, for many texts of different lengths at once.

use candle_core::{Device, Result, Tensor, bail};

use super::attend::{self, Page, Sight, Text};
use super::dot::Rows;
use super::read_as;
use crate::kernels::{Heads, Span};

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
pub(super) fn attend(q: &Tensor, spans: &[Span<'_>], heads: Heads) -> Result<Tensor> {
    let (rows, width) = q.dims2()?;
    let Heads {
        queries,
        keys,
        depth,
        ..
    } = heads;
    let page = spans
        .first()
        .and_then(|span| span.pages.first())
        .map_or(Ok(1), |(keys, _)| keys.dim(0))?;
    let fits = |span: &Span<'_>| {
        let long_enough = span.pages.len() * page >= span.start + span.rows;
        let shaped = |tensor: &Tensor| tensor.dims() == [page, keys * depth];
        long_enough && span.pages.iter().all(|(k, v)| shaped(k) && shaped(v))
    };
    let total: usize = spans.iter().map(|span| span.rows).sum();
    if keys == 0
        || depth == 0
        || page == 0
        || !queries.is_multiple_of(keys.max(1))
        || width != queries * depth
        || width == 0
        || total != rows
        || heads.window == Some(0)
        || !spans.iter().all(fits)
    {
        bail!("attention with {heads:?} does not fit {:?}", q.dims());
    }
    let mut tensors = vec![q];
    for span in spans {
        tensors.extend(span.pages.iter().flat_map(|(k, v)| [*k, *v]));
    }
    let out = read_as(&tensors, |slices| {
        let (q, mut pages) = (slices[0], &slices[1..]);
        let texts = spans.iter().map(|span| {
            let (own, rest) = pages.split_at(span.pages.len() * 2);
            pages = rest;
            Text {
                start: span.start,
                rows: span.rows,
                pages: own
                    .chunks_exact(2)
                    .map(|pair| Page {
                        keys: rows_of(pair[0], keys * depth),
                        values: rows_of(pair[1], keys * depth),
                    })
                    .collect(),
            }
        });
        let texts: Vec<_> = texts.collect();
        let q = rows_of(q, width);
        Ok(attend::attend(q, &texts, page, Sight::Back, heads))
    })?;
    Tensor::from_vec(out, (rows, width), &Device::Cpu)
}

/// Rows that follow each other.
fn rows_of(data: &[f32], width: usize) -> Rows<'_> {
    Rows {
        data,
        step: width,
        count: data.len() / width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4;

    fn tensor(rows: usize, width: usize, seed: usize) -> Tensor {
        let data: Vec<f32> = (0..rows * width)
            .map(|i| ((i * 29 + seed * 13) % 19) as f32 / 6.0 - 1.5)
            .collect();
        Tensor::from_vec(data, (rows, width), &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// A text's keys or values in pages; what is beyond its end is filled with large numbers.
    fn pages(x: &Tensor) -> Vec<Tensor> {
        let (length, width) = x.dims2().unwrap();
        (0..length.div_ceil(PAGE))
            .map(|i| {
                let page = Tensor::full(1e3_f32, (PAGE, width), &Device::Cpu).unwrap();
                let rows = PAGE.min(length - i * PAGE);
                let part = x.narrow(0, i * PAGE, rows).unwrap().copy().unwrap();
                page.slice_set(&part, 0, 0).unwrap();
                page
            })
            .collect()
    }

    /// candle's own operations are the oracle: all scores, masked, through its softmax.
    fn expected(q: &Tensor, k: &Tensor, v: &Tensor, start: usize, heads: Heads) -> Vec<f32> {
        let (rows, _) = q.dims2().unwrap();
        let (length, _) = k.dims2().unwrap();
        let mut columns = Vec::new();
        for head in 0..heads.queries {
            let key = head / (heads.queries / heads.keys);
            let part = |x: &Tensor, head| x.narrow(1, head * heads.depth, heads.depth).unwrap();
            let scores = part(q, head).matmul(&part(k, key).t().unwrap()).unwrap();
            let scores = (scores * f64::from(heads.scale)).unwrap();
            let mask: Vec<f32> = (0..rows * length)
                .map(|i| (start + i / length, i % length))
                .map(|(i, j)| {
                    let seen = j <= i && heads.window.is_none_or(|window| i < j + window);
                    if seen { 0.0 } else { f32::NEG_INFINITY }
                })
                .collect();
            let mask = Tensor::from_vec(mask, (rows, length), &Device::Cpu).unwrap();
            let scores = (scores + mask).unwrap();
            let top = scores.max_keepdim(1).unwrap();
            let chances = scores.broadcast_sub(&top).unwrap().exp().unwrap();
            let chances = chances
                .broadcast_div(&chances.sum_keepdim(1).unwrap())
                .unwrap();
            columns.push(chances.matmul(&part(v, key).contiguous().unwrap()).unwrap());
        }
        values(&Tensor::cat(&columns, 1).unwrap())
    }

    struct Text {
        q: Tensor,
        k: Vec<Tensor>,
        v: Vec<Tensor>,
        start: usize,
        expected: Vec<f32>,
    }

    fn texts(heads: Heads) -> Vec<Text> {
        [(1, 0), (1, 9), (3, 2), (13, 0), (20, 21), (8, 0)]
            .into_iter()
            .enumerate()
            .map(|(i, (rows, start))| {
                let q = tensor(rows, heads.queries * heads.depth, i);
                let k = tensor(start + rows, heads.keys * heads.depth, i + 10);
                let v = tensor(start + rows, heads.keys * heads.depth, i + 20);
                Text {
                    expected: expected(&q, &k, &v, start, heads),
                    k: pages(&k),
                    v: pages(&v),
                    q,
                    start,
                }
            })
            .collect()
    }

    fn run(texts: &[&Text], heads: Heads) -> Vec<f32> {
        let q: Vec<_> = texts.iter().map(|text| &text.q).collect();
        let spans: Vec<_> = texts
            .iter()
            .map(|text| Span {
                start: text.start,
                rows: text.q.dim(0).unwrap(),
                pages: text.k.iter().zip(&text.v).collect(),
            })
            .collect();
        values(&attend(&Tensor::cat(&q, 0).unwrap(), &spans, heads).unwrap())
    }

    #[test]
    fn follows_its_definition_alone_and_among_others() {
        for (queries, keys, depth, window) in [
            (1, 1, 3, None),
            (4, 2, 8, None),
            (6, 1, 20, Some(5)),
            (3, 3, 64, Some(1)),
            (4, 4, 90, Some(100)),
        ] {
            let heads = Heads {
                queries,
                keys,
                depth,
                scale: 0.3,
                window,
            };
            let texts = texts(heads);
            let together = run(&texts.iter().collect::<Vec<_>>(), heads);
            let mut rest = &together[..];
            for text in &texts {
                let alone = run(&[text], heads);
                for (got, expected) in alone.iter().zip(&text.expected) {
                    assert!((got - expected).abs() < 2e-5, "{heads:?}: {got} {expected}");
                }
                let (own, after) = rest.split_at(alone.len());
                assert_eq!(own, alone, "the same bits in company");
                rest = after;
            }
        }
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
        let (q, k) = (tensor(2, 12, 1), tensor(PAGE, 6, 1));
        let span = |start| Span {
            start,
            rows: 2,
            pages: vec![(&k, &k)],
        };
        assert!(attend(&q, &[span(2)], heads).is_ok());
        assert!(attend(&q, &[span(3)], heads).is_err());
        assert!(attend(&q, &[span(0), span(0)], heads).is_err());
        for wrong in [
            Heads { keys: 3, ..heads },
            Heads { keys: 0, ..heads },
            Heads { depth: 4, ..heads },
            Heads {
                window: Some(0),
                ..heads
            },
        ] {
            assert!(attend(&q, &[span(0)], wrong).is_err(), "{wrong:?}");
        }
    }
}
