//! Attention over keys and values kept in pages, for many texts of different lengths at once.
//!
//! Scores of one page at a time, joined by a running softmax (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax", 2018; Dao et al., "FlashAttention", 2022), so that no more than a page of them is ever held. A query goes
//! over its pages in their order, whatever is computed beside it.

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::dot::{Grid, Rows, add_weighted, products};
use super::lanes::{Job, Register, dispatch};
use super::{PARALLEL_FROM, math, read_all};
use crate::kernels::{Heads, Span};

/// Rows of a text computed by one piece of work.
const QUERIES: usize = 8;

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
        || total != rows
        || heads.window == Some(0)
        || !spans.iter().all(fits)
    {
        bail!("attention with {heads:?} does not fit {:?}", q.dims());
    }
    let group = queries / keys * depth;
    let mut turned = vec![0.0; rows * width];
    let mut tensors = vec![q];
    for span in spans {
        tensors.extend(span.pages.iter().flat_map(|(k, v)| [*k, *v]));
    }
    let mut out = vec![0.0; rows * width];
    read_all(&tensors, |slices| {
        let (q, mut pages) = (slices[0], &slices[1..]);
        // One entry a span: its first row, its pages.
        let mut parts = Vec::with_capacity(spans.len());
        let mut first = 0;
        for span in spans {
            let (own, rest) = pages.split_at(span.pages.len() * 2);
            pages = rest;
            parts.push((first, own));
            first += span.rows;
        }
        let mut work = Vec::new();
        let mut cost = 0;
        let mut rest = &mut turned[..];
        for key in 0..keys {
            for (span, (first, pages)) in spans.iter().zip(&parts) {
                for begin in (0..span.rows).step_by(QUERIES) {
                    let count = QUERIES.min(span.rows - begin);
                    let (out, after) = std::mem::take(&mut rest).split_at_mut(count * group);
                    rest = after;
                    cost += count * group * (span.start + begin) * 2;
                    work.push(Piece {
                        q: &q[(first + begin) * width..][..count * width],
                        position: span.start + begin,
                        count,
                        key,
                        pages,
                        page,
                        heads,
                        out,
                    });
                }
            }
        }
        if cost < PARALLEL_FROM {
            work.into_iter().for_each(dispatch);
        } else {
            work.into_par_iter().for_each(dispatch);
        }
        for (i, turned) in turned.chunks_exact(group).enumerate() {
            let (key, row) = (i / rows, i % rows);
            out[row * width + key * group..][..group].copy_from_slice(turned);
        }
        Ok(())
    })?;
    Tensor::from_vec(out, (rows, width), &Device::Cpu)
}

/// Some rows of one text, for the query heads that share one head of keys.
struct Piece<'a> {
    /// The rows, all heads.
    q: &'a [f32],
    /// Position of the first row.
    position: usize,
    count: usize,
    key: usize,
    /// Keys and values of each page, one after the other.
    pages: &'a [&'a [f32]],
    page: usize,
    heads: Heads,
    out: &'a mut [f32],
}

impl Job for Piece<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let Heads {
            queries,
            keys,
            depth,
            scale,
            window,
        } = self.heads;
        let group = queries / keys;
        let (width, vectors) = (queries * depth, self.count * group);
        let mut q = Vec::with_capacity(vectors * depth);
        for row in self.q.chunks_exact(width) {
            q.extend_from_slice(&row[self.key * group * depth..][..group * depth]);
        }
        let mut largest = vec![f32::NEG_INFINITY; vectors];
        let mut totals = vec![0.0; vectors];
        let mut scores = vec![0.0; vectors * self.page];
        // Positions that a row at `position` sees: from `oldest` up to itself.
        let oldest =
            |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window));
        let end = self.position + self.count;
        for index in oldest(self.position) / self.page..end.div_ceil(self.page) {
            let base = index * self.page;
            let seen = self.page.min(end - base);
            let rows = |data| Rows {
                data,
                step: keys * depth,
                count: seen,
            };
            let k = rows(&self.pages[index * 2][self.key * depth..]);
            let v = rows(&self.pages[index * 2 + 1][self.key * depth..]);
            let x = Rows {
                data: &q,
                step: depth,
                count: vectors,
            };
            let mut grid = Grid {
                out: &mut scores,
                x_step: self.page,
                weight_step: 1,
            };
            products::<R>(x, k, depth, &mut grid);
            for vector in 0..vectors {
                let position = self.position + vector / group;
                let from = oldest(position).saturating_sub(base);
                let to = (position + 1).saturating_sub(base).min(seen);
                if from >= to {
                    continue;
                }
                let scores = &mut scores[vector * self.page..][from..to];
                scores.iter_mut().for_each(|score| *score *= scale);
                let most = largest[vector].max(math::largest(scores));
                for score in scores.iter_mut() {
                    *score = math::exp(*score - most);
                }
                let keep = if largest[vector] == f32::NEG_INFINITY {
                    0.0
                } else {
                    math::exp(largest[vector] - most)
                };
                largest[vector] = most;
                totals[vector] = totals[vector] * keep + math::sum(scores);
                let values = Rows {
                    data: &v.data[from * v.step..],
                    ..v
                };
                let out = &mut self.out[vector * depth..][..depth];
                add_weighted::<R>(scores, values, keep, out);
            }
        }
        for (out, total) in self.out.chunks_exact_mut(depth).zip(totals) {
            let scale = 1.0 / total;
            out.iter_mut().for_each(|out| *out *= scale);
        }
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
