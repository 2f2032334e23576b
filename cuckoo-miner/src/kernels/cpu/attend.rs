//! Attention of some rows of a text over its keys and values, a page of them at a time.
//!
//! The scores of a page are joined to those before by a running softmax (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018; Dao et al., "FlashAttention", 2022), so that no more than a page of them is ever held.
//! A query goes over its pages in their order, whatever is computed beside it.

use std::ops::Range;

use super::dot::{Grid, Rows, add_weighted, products};
use super::lanes::{Job, Register, dispatch};
use super::{MOVED, PIECE, each, math, pieces};
use crate::kernels::Heads;

/// The rows of one text that ask.
#[derive(Debug)]
pub(super) struct Text<'a> {
    /// Position of the first one.
    pub(super) start: usize,
    pub(super) rows: usize,
    /// What they look at, from position 0 to the last of these rows.
    pub(super) pages: Vec<Page<'a>>,
}

/// Keys and values of some positions, each of all heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) keys: Rows<'a>,
    pub(super) values: Rows<'a>,
}

/// What a row sees of its text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sight<'a> {
    /// The positions up to its own, within the window.
    Back,
    /// All of them, with what their distance adds to the score.
    All(Option<Bias<'a>>),
}

/// For each head, what a distance adds: that of j to i stands at j - i + `longest` - 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bias<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) longest: usize,
}

impl<'a> Bias<'a> {
    /// What is added for a row at `position`, in one head, from position 0 on.
    #[inline(always)]
    fn of(&self, head: usize, position: usize) -> &'a [f32] {
        let width = 2 * self.longest - 1;
        &self.numbers[head * width..][self.longest - 1 - position..width]
    }
}

/// The rows of `q`, those of all texts one after another, as what they see makes of them.
///
/// Sizes fit: the caller has checked.
pub(super) fn attend(
    q: Rows<'_>,
    texts: &[Text<'_>],
    page: usize,
    sight: Sight<'_>,
    heads: Heads,
) -> Vec<f32> {
    let group = heads.queries / heads.keys * heads.depth;
    let width = heads.queries * heads.depth;
    let (rows, numbers) = (q.count, q.count * width);
    // Rows computed by one piece of work. Where they see different keys, few, so that little is computed in vain.
    let most = match sight {
        Sight::Back => 8,
        Sight::All(_) => 32,
    };
    // Head after head, so that each piece writes a part of its own.
    let mut turned = vec![0.0; numbers];
    let mut work = Vec::new();
    let mut cost = 0;
    let mut rest = &mut turned[..];
    for key in 0..heads.keys {
        let mut first = 0;
        for text in texts {
            for begin in (0..text.rows).step_by(most) {
                let count = most.min(text.rows - begin);
                let (out, after) = std::mem::take(&mut rest).split_at_mut(count * group);
                rest = after;
                let position = text.start + begin;
                let end = match sight {
                    Sight::Back => position + count,
                    Sight::All(_) => text.rows,
                };
                cost += count * group * end * 2;
                work.push(Piece {
                    q: q.part(first + begin, count),
                    position,
                    end,
                    key,
                    pages: &text.pages,
                    page,
                    sight,
                    heads,
                    out,
                });
            }
            first += text.rows;
        }
    }
    each(work, cost, dispatch);
    let mut out = vec![0.0; numbers];
    let some = (PIECE / width).max(1);
    pieces(&mut out, some * width, numbers * MOVED, |i, out| {
        for (row, out) in (i * some..).zip(out.chunks_exact_mut(width)) {
            for (key, out) in out.chunks_exact_mut(group).enumerate() {
                out.copy_from_slice(&turned[(key * rows + row) * group..][..group]);
            }
        }
    });
    out
}

/// Some rows of one text, for the query heads that share one head of keys.
struct Piece<'a> {
    /// The rows, all heads.
    q: Rows<'a>,
    /// Position of the first row.
    position: usize,
    /// Positions that the rows together see.
    end: usize,
    key: usize,
    pages: &'a [Page<'a>],
    page: usize,
    sight: Sight<'a>,
    heads: Heads,
    out: &'a mut [f32],
}

impl Piece<'_> {
    /// Positions that a row at `position` sees.
    #[inline(always)]
    fn seen(&self, position: usize) -> Range<usize> {
        match self.sight {
            Sight::Back => {
                let oldest = |window| (position + 1).saturating_sub(window);
                self.heads.window.map_or(0, oldest)..position + 1
            }
            Sight::All(_) => 0..self.end,
        }
    }
}

impl Job for Piece<'_> {
    #[inline(always)]
    fn run<R: Register>(mut self) {
        let out = std::mem::take(&mut self.out);
        let Heads {
            queries,
            keys,
            depth,
            scale,
            ..
        } = self.heads;
        let group = queries / keys;
        let vectors = self.q.count * group;
        let mut q = Vec::with_capacity(vectors * depth);
        for row in 0..self.q.count {
            let from = row * self.q.step + self.key * group * depth;
            q.extend_from_slice(&self.q.data[from..][..group * depth]);
        }
        let mut largest = vec![f32::NEG_INFINITY; vectors];
        let mut totals = vec![0.0; vectors];
        let mut scores = vec![0.0; vectors * self.page];
        // What is left of the sums so far, whose scores were less by comparison.
        let mut keeps = vec![0.0; vectors];
        for index in self.seen(self.position).start / self.page..self.end.div_ceil(self.page) {
            let base = index * self.page;
            let here = self.page.min(self.end - base);
            let Page { keys, values } = self.pages[index];
            let [k, v] = [keys, values].map(|rows| Rows {
                data: &rows.data[self.key * depth..],
                step: rows.step,
                count: here,
            });
            let x = Rows {
                data: &q,
                step: depth,
                count: vectors,
            };
            let mut grid = Grid {
                out: &mut scores,
                step: self.page,
            };
            products::<R>(x, k, depth, &mut grid);
            let seen = |vector: usize| {
                let seen = self.seen(self.position + vector / group);
                seen.start.saturating_sub(base)..seen.end.saturating_sub(base).min(here)
            };
            for vector in 0..vectors {
                let seen = seen(vector);
                if seen.is_empty() {
                    continue;
                }
                let scores = &mut scores[vector * self.page..][seen.clone()];
                scores.iter_mut().for_each(|score| *score *= scale);
                if let Sight::All(Some(bias)) = self.sight {
                    let head = self.key * group + vector % group;
                    let position = self.position + vector / group;
                    let bias = &bias.of(head, position)[base + seen.start..];
                    scores
                        .iter_mut()
                        .zip(bias)
                        .for_each(|(score, bias)| *score += bias);
                }
                let most = largest[vector].max(math::largest(scores));
                for score in scores.iter_mut() {
                    *score = math::exp(*score - most);
                }
                keeps[vector] = if largest[vector] == f32::NEG_INFINITY {
                    0.0
                } else {
                    math::exp(largest[vector] - most)
                };
                largest[vector] = most;
                totals[vector] = totals[vector] * keeps[vector] + math::sum(scores);
            }
            // Two that see the same at once, where there are: the sums of one alone would wait for each other.
            let mut vector = 0;
            while vector < vectors {
                let range = seen(vector);
                if range.is_empty() {
                    vector += 1;
                    continue;
                }
                let values = Rows {
                    data: &v.data[range.start * v.step..],
                    ..v
                };
                let weights = |vector: usize| &scores[vector * self.page..][range.clone()];
                let out = &mut out[vector * depth..];
                if vector + 1 < vectors && seen(vector + 1) == range {
                    let (one, rest) = out.split_at_mut(depth);
                    add_weighted::<R, 2>(
                        [weights(vector), weights(vector + 1)],
                        values,
                        [keeps[vector], keeps[vector + 1]],
                        [one, &mut rest[..depth]],
                    );
                    vector += 2;
                } else {
                    let (weights, keep) = (weights(vector), keeps[vector]);
                    add_weighted::<R, 1>([weights], values, [keep], [&mut out[..depth]]);
                    vector += 1;
                }
            }
        }
        for (out, total) in out.chunks_exact_mut(depth).zip(totals) {
            let scale = 1.0 / total;
            out.iter_mut().for_each(|out| *out *= scale);
        }
    }
}
