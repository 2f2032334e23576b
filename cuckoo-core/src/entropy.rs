//! Randomness, injected: the operating system's in production, a seeded stream in tests and simulations.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use alloy::primitives::B256;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

/// Where a component gets randomness: ids, nonces, seeds, audit draws.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A random word.
    fn word(&self) -> B256 {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        B256::from(bytes)
    }

    /// A random 64-bit number.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// True with probability `p` (0 to 1).
    fn chance(&self, p: f64) -> bool {
        // 53 bits: what an f64 holds exactly.
        let unit = (self.number() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < p
    }
}

/// The operating system's randomness, through a ChaCha20 stream seeded from it once.
pub struct OsEntropy(SeededEntropy);

impl OsEntropy {
    /// Seeds a stream from the operating system.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when the system has no randomness to give.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's randomness"
    )]
    pub fn new() -> crate::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|source| {
            crate::Error::unavailable("the operating system gave no randomness; check /dev/urandom")
                .with_source(source.to_string())
        })?;
        Ok(Self(SeededEntropy::new(seed)))
    }
}

impl fmt::Debug for OsEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OsEntropy")
    }
}

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// A reproducible stream: equal seeds give equal bytes on every platform.
pub struct SeededEntropy(Mutex<ChaCha20Rng>);

impl SeededEntropy {
    /// The stream of `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Mutex::new(ChaCha20Rng::from_seed(seed)))
    }

    /// The stream of a small seed, for tests and demos.
    pub fn from_number(seed: u64) -> Self {
        Self(Mutex::new(ChaCha20Rng::seed_from_u64(seed)))
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy")
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }
}
