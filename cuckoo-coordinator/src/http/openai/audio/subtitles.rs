//! Transcripts as subtitles.

use std::fmt::Write as _;

use cuckoo_core::TranscriptSegment;

/// In SubRip's format.
pub(super) fn srt(segments: &[TranscriptSegment]) -> String {
    let mut text = String::new();
    for (index, segment) in segments.iter().enumerate() {
        // A String takes whatever is written.
        let _ = writeln!(text, "{}", index + 1);
        cue(&mut text, segment, ',', str::to_owned);
    }
    text
}

/// In the format of WebVTT.
pub(super) fn vtt(segments: &[TranscriptSegment]) -> String {
    let mut text = "WEBVTT\n\n".to_owned();
    for segment in segments {
        cue(&mut text, segment, '.', escaped);
    }
    text
}

/// Text in which WebVTT sees no tags.
fn escaped(said: &str) -> String {
    said.replace('&', "&amp;").replace('<', "&lt;")
}

fn cue(
    text: &mut String,
    segment: &TranscriptSegment,
    mark: char,
    escaped: impl Fn(&str) -> String,
) {
    let [start, end] = [segment.start_millis, segment.end_millis].map(|millis| clock(millis, mark));
    // An empty line would end the cue, and an arrow begin another.
    let said = segment.text.trim().replace(['\r', '\n'], " ");
    let said = escaped(&said.replace("-->", "->"));
    let _ = write!(text, "{start} --> {end}\n{said}\n\n");
}

/// Hours, minutes, seconds and, after `mark`, milliseconds.
fn clock(millis: u64, mark: char) -> String {
    let seconds = millis / 1_000;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}{mark}{:03}",
        seconds % 60,
        millis % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<TranscriptSegment> {
        let segment = |(start_millis, end_millis, text): (u64, u64, &str)| TranscriptSegment {
            start_millis,
            end_millis,
            text: text.to_owned(),
        };
        [
            (0, 999, " Cuckoo."),
            (59_999, 3_661_007, "a <b\r\n\n& --> c"),
            (360_000_000, 360_000_000, ""),
        ]
        .map(segment)
        .to_vec()
    }

    #[test]
    fn subrip() {
        let expected = "1\n00:00:00,000 --> 00:00:00,999\nCuckoo.\n\n\
            2\n00:00:59,999 --> 01:01:01,007\na <b   & -> c\n\n\
            3\n100:00:00,000 --> 100:00:00,000\n\n\n";
        assert_eq!(srt(&segments()), expected);
        assert_eq!(srt(&[]), "");
    }

    #[test]
    fn webvtt() {
        let expected = "WEBVTT\n\n00:00:00.000 --> 00:00:00.999\nCuckoo.\n\n\
            00:00:59.999 --> 01:01:01.007\na &lt;b   &amp; -> c\n\n\
            100:00:00.000 --> 100:00:00.000\n\n\n";
        assert_eq!(vtt(&segments()), expected);
        assert_eq!(vtt(&[]), "WEBVTT\n\n");
    }
}
