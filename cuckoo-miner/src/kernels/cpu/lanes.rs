//! Sixteen numbers at once, with the same results on every processor.
//!
//! A sum in sixteen interleaved lanes, each step one fused multiplication and addition, is defined to the bit whatever
//! carries it out: one 512-bit register, two of 256 bits, or a loop. So miners with different processors agree.

/// Numbers held together.
pub(super) const LANES: usize = 16;

/// [`LANES`] numbers in the registers of one instruction set.
pub(super) trait Lanes: Copy {
    /// Whether there are registers for tiles of 4 by 4 of these.
    const MANY: bool;

    fn splat(x: f32) -> Self;
    fn load(x: &[f32; LANES]) -> Self;
    fn store(self, out: &mut [f32; LANES]);
    /// `self + a * b`, rounded once.
    fn add_product(self, a: Self, b: Self) -> Self;
    fn times(self, by: Self) -> Self;

    /// The sum of all lanes: halves added to each other until one is left.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }
}

/// Work written once for all instruction sets. `run` and all it calls must be `#[inline(always)]`, so that they are
/// compiled for the set that [`dispatch`] picks.
pub(super) trait Job {
    fn run<L: Lanes>(self);
}

/// Runs a job with the widest registers this processor has.
pub(super) fn dispatch<J: Job>(job: J) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function is compiled for.
            #[allow(unsafe_code)]
            return unsafe { x86::with_avx512(job) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            // SAFETY: the processor has what the function is compiled for.
            #[allow(unsafe_code)]
            return unsafe { x86::with_avx2(job) };
        }
    }
    job.run::<[f32; LANES]>();
}

/// For processors of other kinds, and the measure for the rest.
impl Lanes for [f32; LANES] {
    const MANY: bool = false;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self {
        *x
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; LANES]) {
        *out = self;
    }

    #[inline(always)]
    fn add_product(mut self, a: Self, b: Self) -> Self {
        for i in 0..LANES {
            self[i] = a[i].mul_add(b[i], self[i]);
        }
        self
    }

    #[inline(always)]
    fn times(mut self, by: Self) -> Self {
        for i in 0..LANES {
            self[i] *= by[i];
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "intrinsics: pointers come from arrays of the size that is read or written, and `dispatch` looks for the instructions first"
)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Job, LANES, Lanes};

    #[target_feature(enable = "avx512f")]
    pub(super) fn with_avx512<J: Job>(job: J) {
        job.run::<Avx512>();
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn with_avx2<J: Job>(job: J) {
        job.run::<Avx2>();
    }

    #[derive(Clone, Copy)]
    pub(super) struct Avx512(__m512);

    impl Lanes for Avx512 {
        const MANY: bool = true;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: only reached through `with_avx512`.
            Self(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        fn load(x: &[f32; LANES]) -> Self {
            // SAFETY: as above, and the array has the sixteen numbers that are read.
            Self(unsafe { _mm512_loadu_ps(x.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, out: &mut [f32; LANES]) {
            // SAFETY: as above, and the array has room for the sixteen numbers that are written.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: only reached through `with_avx512`.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn times(self, by: Self) -> Self {
            // SAFETY: only reached through `with_avx512`.
            Self(unsafe { _mm512_mul_ps(self.0, by.0) })
        }
    }

    #[derive(Clone, Copy)]
    pub(super) struct Avx2(__m256, __m256);

    impl Lanes for Avx2 {
        const MANY: bool = false;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: only reached through `with_avx2`.
            let x = unsafe { _mm256_set1_ps(x) };
            Self(x, x)
        }

        #[inline(always)]
        fn load(x: &[f32; LANES]) -> Self {
            let (low, high) = x.split_at(LANES / 2);
            // SAFETY: as above, and each half has the eight numbers that are read.
            unsafe {
                Self(
                    _mm256_loadu_ps(low.as_ptr()),
                    _mm256_loadu_ps(high.as_ptr()),
                )
            }
        }

        #[inline(always)]
        fn store(self, out: &mut [f32; LANES]) {
            let (low, high) = out.split_at_mut(LANES / 2);
            // SAFETY: as above, and each half has room for the eight numbers that are written.
            unsafe {
                _mm256_storeu_ps(low.as_mut_ptr(), self.0);
                _mm256_storeu_ps(high.as_mut_ptr(), self.1);
            }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: only reached through `with_avx2`.
            unsafe {
                Self(
                    _mm256_fmadd_ps(a.0, b.0, self.0),
                    _mm256_fmadd_ps(a.1, b.1, self.1),
                )
            }
        }

        #[inline(always)]
        fn times(self, by: Self) -> Self {
            // SAFETY: only reached through `with_avx2`.
            unsafe { Self(_mm256_mul_ps(self.0, by.0), _mm256_mul_ps(self.1, by.1)) }
        }
    }
}
