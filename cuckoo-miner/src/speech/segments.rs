//! The tokens of a window, taken apart by the times among them (as transformers and OpenAI's program do it).

/// Frames that a step of time has: 20 ms, of frames of 10 ms.
const STEP: usize = 2;

/// A part of a window between two times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where in the window it begins and ends, in frames.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) tokens: Vec<u32>,
}

/// The parts of a window of which `frames` hold sound, and after how many frames the next one begins. Times are the tokens from
/// `first_time` on.
///
/// Where a pair of times stands last, the next window begins there, since what follows may have been cut off in the middle.
pub(crate) fn split(tokens: &[u32], first_time: u32, frames: usize) -> (Vec<Part>, usize) {
    let is_time = |token: u32| token >= first_time;
    // The first token is a time by the rules; one that is none counts as the beginning.
    let at = |token: u32| token.saturating_sub(first_time) as usize * STEP;
    let mut cuts: Vec<usize> = (1..tokens.len())
        .filter(|i| is_time(tokens[i - 1]) && is_time(tokens[*i]))
        .collect();
    let Some(last_cut) = cuts.last().copied() else {
        let latest = tokens.iter().rev().find(|token| is_time(**token));
        let end = match latest {
            Some(time) if *time != first_time => at(*time),
            _ => frames / STEP * STEP,
        };
        let tokens = tokens.to_vec();
        let whole = Part {
            start: 0,
            end,
            tokens,
        };
        return (vec![whole], frames);
    };
    // One time alone says that nothing is left to say after it.
    let said_all = matches!(tokens, [.., word, time] if !is_time(*word) && is_time(*time));
    if said_all {
        cuts.push(tokens.len());
    }
    let mut begin = 0;
    let mut parts = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let tokens = &tokens[begin..cut];
        let (first, last) = (tokens.first(), tokens.last());
        parts.push(Part {
            start: first.map_or(0, |token| at(*token)),
            end: last.map_or(0, |token| at(*token)),
            tokens: tokens.to_vec(),
        });
        begin = cut;
    }
    let next = match said_all {
        true => frames,
        // Where it is the beginning, there is no getting on from there.
        false => match at(tokens[last_cut - 1]) {
            0 => frames,
            next => next,
        },
    };
    (parts, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u32 = 100;

    fn split_at(tokens: &[u32]) -> (Vec<(usize, usize, usize)>, usize) {
        let (parts, next) = split(tokens, T, 3000);
        let parts = parts
            .iter()
            .map(|part| (part.start, part.end, part.tokens.len()));
        (parts.collect(), next)
    }

    #[test]
    fn windows_are_cut_between_pairs_of_times() {
        for (tokens, parts, next) in [
            // One sentence, and silence after it.
            (&[T, 1, 2, T + 50][..], &[(0, 100, 4)][..], 3000),
            // No time at the end, or only the one at the beginning.
            (&[T + 5, 1, 2], &[(0, 10, 3)], 3000),
            (&[T, 1, 2], &[(0, 3000, 3)], 3000),
            (&[1, 2], &[(0, 3000, 2)], 3000),
            (&[], &[(0, 3000, 0)], 3000),
            // A pair at the end: what follows is for the next window.
            (&[T, 1, T + 50, T + 50], &[(0, 100, 3)], 100),
            (&[T, 1, T + 50, T + 60, 2, 3], &[(0, 100, 3)], 100),
            // Two sentences, the second one whole.
            (
                &[T, 1, T + 50, T + 60, 2, T + 70],
                &[(0, 100, 3), (120, 140, 3)],
                3000,
            ),
            (
                &[T, 1, T + 50, T + 60, 2, T + 70, T + 70],
                &[(0, 100, 3), (120, 140, 3)],
                140,
            ),
        ] {
            assert_eq!(split_at(tokens), (parts.to_vec(), next), "{tokens:?}");
        }
    }
}
