//! A recording: a WAV file, as models hear it.

use cuckoo_core::Result;

use super::resample::resample;
use super::wav::Wav;
use crate::model::error::{self, Error};

/// A recording of one channel, 16000 numbers a second, from -1 to 1.
#[derive(Debug, Clone)]
pub struct Recording {
    samples: Vec<f32>,
    millis: u64,
}

impl Recording {
    /// Numbers a second.
    pub const RATE: u32 = 16_000;

    /// Reads a WAV file of at most `max_seconds`.
    ///
    /// Its numbers are whole ones of 8, 16, 24 or 32 bits or floats of 32, 8000 to 192000 a second. Several channels become
    /// their mean; another rate than [`RATE`](Self::RATE) is brought to it by a windowed sinc, and what has that rate already
    /// is not touched. Where its size was not known to its writer, such as one that wrote into a pipe, it is read to the end.
    /// Equal files give equal bits on all machines.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when it is no such file, ends early, holds no sound, or a number that is
    /// not finite; [`Rejected`](cuckoo_core::ErrorKind::Rejected) when it is longer.
    pub fn from_wav(bytes: &[u8], max_seconds: u32) -> Result<Self> {
        Ok(Self::read(bytes, max_seconds)?)
    }

    /// What was sampled [`RATE`](Self::RATE) times a second already.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when there are no samples, or some that are not finite.
    pub fn from_samples(samples: Vec<f32>) -> Result<Self> {
        let odd = |problem: String| Err(Error::Recording { problem }.into());
        if samples.is_empty() {
            return odd("it holds no sound".to_owned());
        }
        if let Some(i) = samples.iter().position(|sample| !sample.is_finite()) {
            return odd(format!("sample {} is not a finite number", i + 1));
        }
        let millis = samples.len() as u64 * 1000 / u64::from(Self::RATE);
        Ok(Self { samples, millis })
    }

    fn read(bytes: &[u8], max_seconds: u32) -> error::Result<Self> {
        let wav = Wav::open(bytes, max_seconds)?;
        let (rate, millis) = (wav.rate, wav.millis());
        Ok(Self {
            samples: resample(&wav.mono()?, rate, Self::RATE),
            millis,
        })
    }

    /// The numbers.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// Its length in milliseconds.
    pub fn millis(&self) -> u64 {
        self.millis
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use cuckoo_core::ErrorKind;
    use hound::{SampleFormat, WavSpec, WavWriter};

    use super::*;

    fn wav<S: hound::Sample>(
        bits: u16,
        format: SampleFormat,
        channels: u16,
        rate: u32,
        samples: impl IntoIterator<Item = S>,
    ) -> Vec<u8> {
        let spec = WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: bits,
            sample_format: format,
        };
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec).unwrap();
        for sample in samples {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        file.into_inner()
    }

    #[test]
    fn every_width_is_from_minus_one_to_one() {
        for bits in [8, 16, 24, 32] {
            let most = 1_i64 << (bits - 1);
            let samples = [0, most / 2, -most, -most / 4].map(|x| x as i32);
            let file = wav(bits, SampleFormat::Int, 1, 16_000, samples);
            let recording = Recording::from_wav(&file, 1).unwrap();
            assert_eq!(recording.samples(), [0.0, 0.5, -1.0, -0.25], "{bits}");
        }
        let file = wav(32, SampleFormat::Float, 1, 16_000, [0.1_f32, -0.7]);
        let recording = Recording::from_wav(&file, 1).unwrap();
        assert_eq!(recording.samples(), [0.1, -0.7]);
    }

    #[test]
    fn channels_become_their_mean_and_rates_one() {
        let file = wav(
            16,
            SampleFormat::Int,
            3,
            16_000,
            [300_i32, 600, 0, -32_768, -32_768, -32_768],
        );
        let recording = Recording::from_wav(&file, 1).unwrap();
        assert_eq!(recording.samples(), [300.0 / 32_768.0, -1.0]);
        for (rate, count) in [(8_000, 8_000), (44_100, 66_150), (192_000, 19_200)] {
            let file = wav(16, SampleFormat::Int, 1, rate, vec![8_192_i32; count]);
            let recording = Recording::from_wav(&file, 2).unwrap();
            let millis = count as u64 * 1000 / u64::from(rate);
            assert_eq!(recording.millis(), millis);
            assert_eq!(recording.samples().len() as u64, millis * 16);
            let middle = recording.samples()[recording.samples().len() / 2];
            assert!((middle - 0.25).abs() < 1e-6, "{rate}: {middle}");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused_and_says_why() {
        let good = wav(16, SampleFormat::Int, 1, 16_000, vec![7_i32; 16_000]);
        assert_eq!(Recording::from_wav(&good, 1).unwrap().millis(), 1_000);
        let refused = |bytes: &[u8], kind: ErrorKind, named: &str| {
            let error = Recording::from_wav(bytes, 1).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(named), "{error}");
        };
        refused(b"", ErrorKind::Invalid, "ends before its end");
        refused(
            b"ID3\x04 a song, not a WAV file",
            ErrorKind::Invalid,
            "no WAV file",
        );
        for length in [11, 20, 43, 44, 45, 20_000] {
            refused(&good[..length], ErrorKind::Invalid, "ends before its end");
        }
        let none = wav(16, SampleFormat::Int, 2, 16_000, Vec::<i32>::new());
        refused(&none, ErrorKind::Invalid, "no sound");
        for rate in [1, 7_999, 192_001, u32::MAX / 2] {
            let odd = wav(16, SampleFormat::Int, 1, rate, [1_i32]);
            refused(&odd, ErrorKind::Invalid, "samples a second");
        }
        for bad in [f32::NAN, f32::INFINITY] {
            let odd = wav(32, SampleFormat::Float, 1, 16_000, [0.0, bad]);
            refused(&odd, ErrorKind::Invalid, "sample 2 is not a finite number");
        }
        for samples in [vec![], vec![0.0, f32::NAN]] {
            let error = Recording::from_samples(samples).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let long = wav(16, SampleFormat::Int, 1, 16_000, vec![7_i32; 16_001]);
        refused(
            &long,
            ErrorKind::Rejected,
            "has 2 s, and this miner takes 1",
        );
        // A header that claims more than a day, of a file that is not there.
        let mut claims = good.clone();
        claims[40..44].copy_from_slice(&0xffff_fffe_u32.to_le_bytes());
        refused(&claims, ErrorKind::Invalid, "ends before its end");
        // A law of telephones.
        let mut other = good;
        other[20] = 7;
        refused(&other, ErrorKind::Invalid, "ffmpeg");
    }
}
