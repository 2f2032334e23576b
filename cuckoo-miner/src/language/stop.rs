//! Texts that end an answer before they are in it.

/// The stop texts of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops(Vec<String>);

/// What is known of a text whose continuation is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// A stop text begins at this byte.
    Found(usize),
    /// So many bytes are part of no stop text, whatever follows.
    Clear(usize),
}

impl Stops {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
    }

    /// Looks for the first stop text, and for the beginning of one at the end.
    pub(crate) fn scan(&self, text: &str) -> Scan {
        if let Some(at) = self.0.iter().filter_map(|stop| text.find(stop)).min() {
            return Scan::Found(at);
        }
        let begins = |at: &usize| self.0.iter().any(|stop| stop.starts_with(&text[*at..]));
        let longest = self.0.iter().map(String::len).max().unwrap_or(0);
        let first = text.len() - longest.min(text.len());
        let clear = (first..text.len())
            .filter(|at| text.is_char_boundary(*at))
            .find(begins);
        Scan::Clear(clear.unwrap_or(text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(stops: &[&str], text: &str) -> Scan {
        Stops::new(stops.iter().map(|stop| (*stop).to_owned()).collect()).scan(text)
    }

    #[test]
    fn the_first_stop_is_found_and_beginnings_are_held() {
        for (stops, text, expected) in [
            (&[][..], "abc", Scan::Clear(3)),
            (&["x"], "", Scan::Clear(0)),
            (&["b"], "abc", Scan::Found(1)),
            (&["c", "b"], "abc", Scan::Found(1)),
            (&["cd"], "abc", Scan::Clear(2)),
            (&["bcd"], "abc", Scan::Clear(1)),
            (&["aab"], "aaa", Scan::Clear(1)),
            (&["abcd", "c!"], "abc", Scan::Clear(0)),
            (&["日本"], "x日", Scan::Clear(1)),
            (&["é!"], "caf\u{e9}", Scan::Clear(3)),
            (&["", "q"], "abc", Scan::Clear(3)),
        ] {
            assert_eq!(scan(stops, text), expected, "{stops:?} in {text:?}");
        }
    }
}
