//! What a model remembers of the texts in work: keys and values of every layer, in pages of equal size.
//!
//! Pages come from a pool with a limit, so memory is bounded whatever is asked, and a text takes as many as it has
//! tokens for rather than as many as it might have.

use candle_core::{DType, Device, Tensor};

use crate::kernels::Span;
use crate::model::error::Result;

/// Tokens in a page. Attention sums page by page, so this number is part of the arithmetic: another one gives other
/// bits.
pub(crate) const PAGE: usize = 64;

/// Keys and values of [`PAGE`] tokens.
#[derive(Debug)]
struct Page {
    /// For each layer, two tensors of `[PAGE, width]`.
    layers: Vec<(Tensor, Tensor)>,
}

/// Sizes of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize {
    pub(crate) layers: usize,
    /// Width of keys, and of values, of one layer.
    pub(crate) width: usize,
}

impl PageSize {
    /// Bytes of one page.
    pub(crate) fn bytes(self) -> u64 {
        let numbers = self.layers * 2 * PAGE * self.width;
        (numbers * size_of::<f32>()) as u64
    }
}

/// All the pages there are.
#[derive(Debug)]
pub(crate) struct Pool {
    size: PageSize,
    device: Device,
    limit: usize,
    /// Pages that were made, in use or not.
    made: usize,
    free: Vec<Page>,
}

impl Pool {
    /// A pool of at most `limit` pages; none is made before it is needed.
    pub(crate) fn new(size: PageSize, limit: usize, device: &Device) -> Self {
        Self {
            size,
            device: device.clone(),
            limit,
            made: 0,
            free: Vec::new(),
        }
    }

    /// How many pages can be taken now.
    pub(crate) fn available(&self) -> usize {
        self.limit - self.made + self.free.len()
    }

    /// How many pages there are in all.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    fn take(&mut self) -> Result<Option<Page>> {
        if let Some(page) = self.free.pop() {
            return Ok(Some(page));
        }
        if self.made == self.limit {
            return Ok(None);
        }
        let shape = (PAGE, self.size.width);
        let blank = || Tensor::zeros(shape, DType::F32, &self.device);
        let layers = (0..self.size.layers)
            .map(|_| Ok((blank()?, blank()?)))
            .collect::<Result<_>>()?;
        self.made += 1;
        Ok(Some(Page { layers }))
    }
}

/// What is remembered of one text.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pages: Vec<Page>,
    length: usize,
}

impl Cache {
    /// Tokens remembered.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Pages needed for a text of `tokens`.
    pub(crate) fn pages_for(tokens: usize) -> usize {
        tokens.div_ceil(PAGE)
    }

    /// Takes pages until there is room for `tokens`; false when the pool has no more.
    pub(crate) fn grow(&mut self, pool: &mut Pool, tokens: usize) -> Result<bool> {
        while self.pages.len() < Self::pages_for(tokens) {
            match pool.take()? {
                Some(page) => self.pages.push(page),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Forgets everything and gives the pages back.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        pool.free.append(&mut self.pages);
        self.length = 0;
    }

    /// Stores keys and values, `[tokens, width]` each, of one layer for the tokens after those remembered.
    pub(crate) fn store(&self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        let tokens = keys.dim(0)?;
        let mut done = 0;
        while done < tokens {
            let at = self.length + done;
            let count = (PAGE - at % PAGE).min(tokens - done);
            let Some(page) = self.pages.get(at / PAGE) else {
                return Err(candle_core::Error::Msg("a text has outgrown its pages".into()).into());
            };
            let (page_keys, page_values) = &page.layers[layer];
            page_keys.slice_set(&keys.narrow(0, done, count)?, 0, at % PAGE)?;
            page_values.slice_set(&values.narrow(0, done, count)?, 0, at % PAGE)?;
            done += count;
        }
        Ok(())
    }

    /// How attention in `layer` sees this text with `rows` tokens after those remembered.
    pub(crate) fn span(&self, layer: usize, rows: usize) -> Span<'_> {
        let used = Self::pages_for(self.length + rows);
        let pages = self.pages.iter().take(used).map(|page| &page.layers[layer]);
        Span {
            start: self.length,
            rows,
            pages: pages.map(|(keys, values)| (keys, values)).collect(),
        }
    }

    /// Remembers `rows` more tokens, whose keys and values were stored in every layer.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.length += rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(limit: usize) -> Pool {
        let size = PageSize {
            layers: 2,
            width: 3,
        };
        Pool::new(size, limit, &Device::Cpu)
    }

    #[test]
    fn pages_are_bounded_and_used_again() {
        let mut pool = pool(3);
        let (mut a, mut b) = (Cache::default(), Cache::default());
        assert!(a.grow(&mut pool, PAGE + 1).unwrap());
        assert!(a.grow(&mut pool, 2 * PAGE).unwrap(), "it has room already");
        assert_eq!(pool.available(), 1);
        assert!(!b.grow(&mut pool, PAGE + 1).unwrap());
        a.clear(&mut pool);
        assert_eq!((a.pages.len(), a.length()), (0, 0));
        assert!(b.grow(&mut pool, PAGE + 1).unwrap());
        assert_eq!((pool.available(), pool.made), (1, 3));
    }

    #[test]
    fn tokens_are_stored_across_pages() {
        let mut pool = pool(2);
        let mut cache = Cache::default();
        cache.grow(&mut pool, PAGE + 2).unwrap();
        let rows = |from: usize, count: usize| {
            let numbers = (from..from + count).flat_map(|row| [row as f32; 3]);
            Tensor::from_iter(numbers, &Device::Cpu)
                .and_then(|flat| flat.reshape((count, 3)))
                .unwrap()
        };
        for (from, count) in [(0, PAGE - 2), (PAGE - 2, 4)] {
            for layer in 0..2 {
                let rows = rows(from, count);
                cache.store(layer, &rows, &rows).unwrap();
            }
            cache.advance(count);
        }
        let span = cache.span(1, 0);
        assert_eq!((span.start, span.pages.len()), (PAGE + 2, 2));
        let first = span.pages[0].0.to_vec2::<f32>().unwrap();
        let second = span.pages[1].1.to_vec2::<f32>().unwrap();
        assert_eq!(first[PAGE - 1], [(PAGE - 1) as f32; 3]);
        assert_eq!(second[1], [(PAGE + 1) as f32; 3]);
        let beyond = rows(0, PAGE);
        assert!(cache.store(0, &beyond, &beyond).is_err());
    }
}
