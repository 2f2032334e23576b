//! WAV files: their header, and their numbers as one channel.
//!
//! The chunks of the file are found here rather than by hound, which does not skip the byte after a chunk of odd length, and
//! takes what is said of sizes for true. It reads the numbers from a header of ours, which says how many there are.

use std::io::{Chain, Cursor, Read};

use hound::{SampleFormat, WavReader};

use super::recording::Recording;
use crate::model::error::{Error, Result};

/// Numbers a second that a file may have.
const RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;
/// Sizes of the numbers whose writer did not know it, since it wrote into a pipe: those of most programs, and that of SoX, cut
/// down to whole numbers.
const UNKNOWN: [usize; 2] = [u32::MAX as usize, 0x7fff_f000];
/// What says that a longer description of the numbers follows, and how long both are.
const EXTENSIBLE: (u16, usize) = (0xfffe, 40);
/// The length of the description otherwise.
const PLAIN: usize = 16;

/// A file of which the header was read.
pub(crate) struct Wav<'a> {
    reader: WavReader<Chain<Cursor<Vec<u8>>, &'a [u8]>>,
    /// Numbers a second of a channel.
    pub(crate) rate: u32,
    /// Numbers of a channel.
    pub(crate) count: u32,
}

impl<'a> Wav<'a> {
    /// Reads the header, of a recording of at most `max_seconds`.
    pub(crate) fn open(bytes: &'a [u8], max_seconds: u32) -> Result<Self> {
        let (format, data) = chunks(bytes)?;
        let reader = WavReader::new(Cursor::new(header(&format, data.len())?).chain(data));
        let reader = reader.map_err(unreadable)?;
        let (rate, count) = (reader.spec().sample_rate, reader.duration());
        if !RATES.contains(&rate) {
            let problem = format!(
                "it has {rate} samples a second; from {} to {} are taken",
                RATES.start(),
                RATES.end()
            );
            return Err(Error::Recording { problem });
        }
        if count == 0 {
            let problem = "it holds no sound".to_owned();
            return Err(Error::Recording { problem });
        }
        let seconds = u64::from(count).div_ceil(u64::from(rate));
        if seconds > u64::from(max_seconds) {
            return Err(Error::Full {
                problem: format!(
                    "the recording has {seconds} s, and this miner takes {max_seconds}; cut it, or assign it to another miner"
                ),
            });
        }
        Ok(Self {
            reader,
            rate,
            count,
        })
    }

    /// Its length in milliseconds.
    pub(crate) fn millis(&self) -> u64 {
        u64::from(self.count) * 1000 / u64::from(self.rate)
    }

    /// Samples that models hear.
    pub(crate) fn samples(&self) -> u64 {
        let numbers = u64::from(self.count) * u64::from(Recording::RATE);
        numbers.div_ceil(u64::from(self.rate))
    }

    /// Bytes of memory that its numbers take, as they are and as models hear them.
    pub(crate) fn memory(&self) -> u64 {
        (u64::from(self.count) + self.samples()) * size_of::<f32>() as u64
    }

    /// The means of the channels, from -1 to 1.
    pub(crate) fn mono(mut self) -> Result<Vec<f32>> {
        let spec = self.reader.spec();
        let channels = usize::from(spec.channels);
        // No more than there are bytes in the file.
        let room = self.count as usize;
        match spec.sample_format {
            SampleFormat::Float => means(self.reader.samples::<f32>(), channels, 1.0, room),
            SampleFormat::Int => {
                // Of other widths than these nothing is read below.
                let largest = match spec.bits_per_sample {
                    bits @ 1..=32 => (1_u64 << (bits - 1)) as f64,
                    _ => 1.0,
                };
                means(self.reader.samples::<i32>(), channels, largest, room)
            }
        }
    }
}

/// The description of the numbers, as hound reads it, and their bytes.
fn chunks(bytes: &[u8]) -> Result<(Vec<u8>, &[u8])> {
    for (place, tag) in [(0, "RIFF"), (8, "WAVE")] {
        let found = bytes.get(place..place + 4).ok_or_else(cut_off)?;
        if found != tag.as_bytes() {
            return Err(no_wav(&format!("no {tag} tag found")));
        }
    }
    let mut rest = bytes.get(12..).unwrap_or_default();
    let mut format: Option<Vec<u8>> = None;
    loop {
        let (kind, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let (size, after) = after.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let size = u32::from_le_bytes(*size) as usize;
        match (kind, format.take()) {
            (b"data", None) => return Err(no_wav("missing fmt chunk")),
            (b"data", Some(format)) => {
                let block = block(&format);
                let unknown = size == UNKNOWN[0] || size == UNKNOWN[1] / block * block;
                let size = match unknown && size > after.len() {
                    true => after.len() / block * block,
                    false => size,
                };
                return Ok((format, after.get(..size).ok_or_else(cut_off)?));
            }
            (b"fmt ", _) => format = Some(plain(after.get(..size).ok_or_else(cut_off)?)),
            (_, before) => format = before,
        }
        // A chunk of odd length has a byte after it that does not count.
        let end = size.saturating_add(size % 2);
        rest = after.get(end..).unwrap_or_default();
    }
}

/// A description without what is not needed of it.
fn plain(format: &[u8]) -> Vec<u8> {
    let (tag, long) = EXTENSIBLE;
    let extensible = format.starts_with(&tag.to_le_bytes());
    let size = if extensible { long } else { PLAIN };
    let mut format = format[..size.min(format.len())].to_vec();
    if format.len() == EXTENSIBLE.1 {
        // How many bits count: the upper ones of a number, so that all of them together say the same.
        format.copy_within(14..16, 18);
    }
    format
}

/// Bytes of a number of every channel.
fn block(format: &[u8]) -> usize {
    let size = format.get(12..).and_then(|size| size.first_chunk());
    size.map_or(1, |size| usize::from(u16::from_le_bytes(*size)).max(1))
}

/// What stands before so many bytes of numbers.
fn header(format: &[u8], size: usize) -> Result<Vec<u8>> {
    let size = u32::try_from(size).map_err(|_| no_wav("it has more than 4 GiB"))?;
    let mut header = Vec::with_capacity(28 + format.len());
    // The size of the file is not looked at.
    header.extend(b"RIFF\0\0\0\0WAVEfmt ");
    header.extend((format.len() as u32).to_le_bytes());
    header.extend(format);
    header.extend(b"data");
    header.extend(size.to_le_bytes());
    Ok(header)
}

/// The means of the channels, of which `largest` becomes 1.
fn means<S: Into<f64>>(
    numbers: impl Iterator<Item = hound::Result<S>>,
    channels: usize,
    largest: f64,
    room: usize,
) -> Result<Vec<f32>> {
    let mut out = Vec::with_capacity(room);
    let (mut sum, mut had) = (0.0, 0);
    for number in numbers {
        let number: f64 = number.map_err(unreadable)?.into();
        if !number.is_finite() {
            let problem = format!("sample {} is not a finite number", out.len() + 1);
            return Err(Error::Recording { problem });
        }
        sum += number;
        had += 1;
        if had == channels {
            out.push((sum / channels as f64 / largest) as f32);
            (sum, had) = (0.0, 0);
        }
    }
    Ok(out)
}

fn cut_off() -> Error {
    let problem = "it ends before its end; send all of it".to_owned();
    Error::Recording { problem }
}

fn no_wav(what: &str) -> Error {
    let problem = format!("it is no WAV file that can be read: {what}");
    Error::Recording { problem }
}

fn unreadable(error: hound::Error) -> Error {
    match error {
        hound::Error::IoError(_) => cut_off(),
        hound::Error::FormatError(what) => no_wav(what),
        _ => Error::Recording {
            problem: "its samples are neither whole numbers of 8, 16, 24 or 32 bits nor floats of 32; convert it, such as \
                      with `ffmpeg -i FILE -ar 16000 -ac 1 -c:a pcm_s16le recording.wav`"
                .to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of these chunks, whose writer knew what it wrote.
    fn file(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut body = b"WAVE".to_vec();
        for (kind, bytes) in chunks {
            body.extend(*kind);
            body.extend((bytes.len() as u32).to_le_bytes());
            body.extend(bytes);
            body.resize(body.len().next_multiple_of(2), 0);
        }
        let mut file = b"RIFF".to_vec();
        file.extend((body.len() as u32).to_le_bytes());
        file.extend(body);
        file
    }

    /// The description of whole numbers at 16 kHz.
    fn format(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
        let block = channels * bits / 8;
        let mut format = [tag, channels].map(u16::to_le_bytes).concat();
        for long in [16_000, 16_000 * u32::from(block)] {
            format.extend(long.to_le_bytes());
        }
        format.extend([block, bits].map(u16::to_le_bytes).concat());
        format
    }

    /// The longer one, of which so many bits count.
    fn extensible(channels: u16, bits: u16, valid: u16) -> Vec<u8> {
        let mut format = format(0xfffe, channels, bits);
        format.extend([22, valid, 0, 0].map(u16::to_le_bytes).concat());
        // The name of whole numbers (KSDATAFORMAT_SUBTYPE_PCM).
        format.extend([
            1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71,
        ]);
        format
    }

    fn halves(count: usize) -> Vec<u8> {
        16_384_i16.to_le_bytes().repeat(count)
    }

    fn read(file: &[u8]) -> std::result::Result<Vec<f32>, String> {
        let wav = Wav::open(file, 10).map_err(|error| error.to_string())?;
        wav.mono().map_err(|error| error.to_string())
    }

    #[test]
    fn chunks_of_odd_length_have_a_byte_after_them() {
        for odd in [1, 3, 5] {
            let file = file(&[
                (b"LIST", vec![b'x'; odd]),
                (b"fmt ", format(1, 1, 16)),
                (b"fact", vec![1; odd + 3]),
                (b"data", halves(3)),
                (b"LIST", vec![b'y'; odd]),
            ]);
            assert_eq!(read(&file).unwrap(), [0.5; 3], "{odd}");
        }
    }

    #[test]
    fn what_came_through_a_pipe_goes_to_its_end() {
        let mut piped = file(&[(b"fmt ", format(1, 2, 16)), (b"data", halves(8))]);
        for unknown in [0x7fff_f000, u32::MAX] {
            for place in [4, 40] {
                piped[place..place + 4].copy_from_slice(&unknown.to_le_bytes());
            }
            assert_eq!(read(&piped).unwrap(), [0.5; 4], "{unknown:x}");
        }
        // It broke in the middle of a number.
        assert_eq!(read(&piped[..piped.len() - 3]).unwrap(), [0.5; 3]);
        assert!(read(&piped[..44]).unwrap_err().contains("no sound"));
        // SoX: numbers of 24 bits, of which that many bytes are no whole number.
        let mut sox = file(&[(b"fmt ", format(1, 1, 24)), (b"data", vec![0, 0, 0x40])]);
        sox[40..44].copy_from_slice(&(0x7fff_f000_u32 / 3 * 3).to_le_bytes());
        assert_eq!(read(&sox).unwrap(), [0.5]);
        sox[40..44].copy_from_slice(&(0x7fff_f000_u32 / 3 * 3 - 3).to_le_bytes());
        assert!(read(&sox).unwrap_err().contains("ends before its end"));
        // Another chunk of unknown size is none that can be passed.
        let mut lost = file(&[(b"LIST", vec![0; 4]), (b"data", halves(1))]);
        lost[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&lost).unwrap_err().contains("ends before its end"));
    }

    #[test]
    fn bits_that_do_not_count_are_the_lowest() {
        for valid in [0, 1, 7, 8, 12, 16, 17, u16::MAX] {
            let file = file(&[(b"fmt ", extensible(1, 16, valid)), (b"data", halves(2))]);
            assert_eq!(read(&file).unwrap(), [0.5; 2], "{valid}");
        }
        // One bit of eight, and 24 of 32.
        for (bits, valid, data) in [(8, 1, vec![0xc0]), (32, 24, vec![0, 0, 0, 0x40])] {
            let file = file(&[(b"fmt ", extensible(1, bits, valid)), (b"data", data)]);
            assert_eq!(read(&file).unwrap(), [0.5], "{valid} of {bits}");
        }
        // Said to be more than there are bytes.
        let mut more = file(&[(b"fmt ", extensible(1, 8, 1)), (b"data", vec![0; 8])]);
        let place = more.len() - 12;
        more[place..place + 4].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
        assert!(read(&more).unwrap_err().contains("ends before its end"));
    }

    #[test]
    fn longer_descriptions_say_no_more() {
        for (tag, bits, data, after) in [
            (1, 32, vec![0, 0, 0, 0x40], 2),
            (1, 16, vec![0, 0x40], 4),
            (3, 32, 0.5_f32.to_le_bytes().to_vec(), 2),
        ] {
            let mut format = format(tag, 1, bits);
            format.resize(PLAIN + after, 0);
            let file = file(&[(b"fmt ", format), (b"data", data)]);
            assert_eq!(read(&file).unwrap(), [0.5], "{tag}, {bits}");
        }
        let mut format = extensible(1, 16, 16);
        format.resize(44, 7);
        let file = file(&[(b"fmt ", format), (b"data", halves(2))]);
        assert_eq!(read(&file).unwrap(), [0.5; 2]);
    }

    #[test]
    fn broken_headers_are_refused_whatever_is_in_them() {
        let good = file(&[
            (b"LIST", vec![b'x'; 3]),
            (b"fmt ", extensible(2, 16, 16)),
            (b"data", halves(4)),
        ]);
        assert_eq!(read(&good).unwrap(), [0.5; 2]);
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "{length}");
        }
        for place in 0..good.len() - 8 {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[place] = byte;
                // What is read is never more than there is.
                let numbers = read(&bad).map_or(0, |numbers| numbers.len());
                assert!(numbers <= good.len(), "{byte} at {place}");
            }
        }
        for (chunks, named) in [
            (vec![(b"data", halves(1))], "missing fmt chunk"),
            (
                vec![(b"fmt ", vec![1; 15]), (b"data", halves(1))],
                "invalid fmt chunk",
            ),
            (vec![(b"fmt ", format(1, 1, 16))], "ends before its end"),
        ] {
            let error = read(&file(&chunks)).unwrap_err();
            assert!(error.contains(named), "{named} in {error}");
        }
    }
}
