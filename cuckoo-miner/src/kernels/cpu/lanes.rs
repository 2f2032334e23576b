//! Sums in sixteen lanes, the same on every processor.
//!
//! A sum in sixteen interleaved lanes, each step one fused multiplication and addition, is defined to the bit whatever
//! carries it out: one register of 512 bits, two of 256 one after the other, or a loop. So miners with different
//! processors agree.

use half::{bf16, f16};

/// Lanes of a sum.
pub(super) const LANES: usize = 16;

/// A register of one instruction set, which holds some of the lanes.
pub(super) trait Register: Copy {
    /// Numbers it holds: 4, 8 or 16.
    const WIDTH: usize;

    fn splat(x: f32) -> Self;
    /// The first [`WIDTH`](Self::WIDTH) numbers of `x`.
    ///
    /// # Panics
    /// When there are fewer.
    fn load(x: &[f32]) -> Self;
    /// As [`load`](Self::load), of numbers that are widened.
    fn load_f16(x: &[f16]) -> Self;
    /// As [`load`](Self::load), of numbers that are widened.
    fn load_bf16(x: &[bf16]) -> Self;
    /// Into the first [`WIDTH`](Self::WIDTH) numbers of `out`.
    ///
    /// # Panics
    /// When there are fewer.
    fn store(self, out: &mut [f32]);
    /// `self + a * b`, rounded once.
    fn add_product(self, a: Self, b: Self) -> Self;
    fn times(self, by: Self) -> Self;
}

/// The sum of all lanes: halves added to each other until one is left.
#[inline(always)]
pub(super) fn sum(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// Work written once for all instruction sets. `run` and all it calls must be `#[inline(always)]`, so that they are
/// compiled for the set that [`dispatch`] picks.
pub(super) trait Job {
    fn run<R: Register>(self);
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
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c")
        {
            // SAFETY: the processor has what the function is compiled for.
            #[allow(unsafe_code)]
            return unsafe { x86::with_avx2(job) };
        }
    }
    job.run::<Plain>();
}

/// Does `work` with the widest registers the compiler can use here. It must be inlined, as [`Job::run`] must; its bits
/// do not depend on them, since the compiler changes no order and fuses nothing.
pub(super) fn widest(work: impl FnOnce()) {
    dispatch(Widest(work));
}

struct Widest<F>(F);

impl<F: FnOnce()> Job for Widest<F> {
    #[inline(always)]
    fn run<R: Register>(self) {
        (self.0)();
    }
}

/// For processors of other kinds, and the measure for the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Register for Plain {
    const WIDTH: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    fn load(x: &[f32]) -> Self {
        Self([x[0], x[1], x[2], x[3]])
    }

    #[inline(always)]
    fn load_f16(x: &[f16]) -> Self {
        Self([0, 1, 2, 3].map(|i| x[i].to_f32()))
    }

    #[inline(always)]
    fn load_bf16(x: &[bf16]) -> Self {
        Self([0, 1, 2, 3].map(|i| x[i].to_f32()))
    }

    #[inline(always)]
    fn store(self, out: &mut [f32]) {
        out[..4].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn add_product(mut self, a: Self, b: Self) -> Self {
        for i in 0..4 {
            self.0[i] = a.0[i].mul_add(b.0[i], self.0[i]);
        }
        self
    }

    #[inline(always)]
    fn times(mut self, by: Self) -> Self {
        for i in 0..4 {
            self.0[i] *= by.0[i];
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "intrinsics: lengths are asserted before pointers are taken, and `dispatch` looks for the instructions first"
)]
mod x86 {
    use std::arch::x86_64::*;

    use half::{bf16, f16};

    use super::{Job, Register};

    #[target_feature(enable = "avx512f")]
    pub(super) fn with_avx512<J: Job>(job: J) {
        job.run::<Avx512>();
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn with_avx2<J: Job>(job: J) {
        job.run::<Avx2>();
    }

    /// Only used below `with_avx512`.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(__m512);

    impl Register for Avx512 {
        const WIDTH: usize = 16;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: `with_avx512` is further up.
            Self(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        fn load(x: &[f32]) -> Self {
            assert!(x.len() >= Self::WIDTH);
            // SAFETY: as above, and there are the sixteen numbers that are read.
            Self(unsafe { _mm512_loadu_ps(x.as_ptr()) })
        }

        #[inline(always)]
        fn load_f16(x: &[f16]) -> Self {
            assert!(x.len() >= Self::WIDTH);
            // SAFETY: as above, and there are the sixteen numbers that are read.
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) })
        }

        #[inline(always)]
        fn load_bf16(x: &[bf16]) -> Self {
            assert!(x.len() >= Self::WIDTH);
            // SAFETY: as above, and there are the sixteen numbers that are read. They are the upper halves of theirs in f32.
            Self(unsafe {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
            })
        }

        #[inline(always)]
        fn store(self, out: &mut [f32]) {
            assert!(out.len() >= Self::WIDTH);
            // SAFETY: as above, and there is room for the sixteen numbers that are written.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: `with_avx512` is further up.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn times(self, by: Self) -> Self {
            // SAFETY: `with_avx512` is further up.
            Self(unsafe { _mm512_mul_ps(self.0, by.0) })
        }
    }

    /// Only used below `with_avx2`.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2(__m256);

    impl Register for Avx2 {
        const WIDTH: usize = 8;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: `with_avx2` is further up.
            Self(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        fn load(x: &[f32]) -> Self {
            assert!(x.len() >= Self::WIDTH);
            // SAFETY: as above, and there are the eight numbers that are read.
            Self(unsafe { _mm256_loadu_ps(x.as_ptr()) })
        }

        #[inline(always)]
        fn load_f16(x: &[f16]) -> Self {
            assert!(x.len() >= Self::WIDTH);
            // SAFETY: as above, and there are the eight numbers that are read.
            Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) })
        }

        #[inline(always)]
        fn load_bf16(x: &[bf16]) -> Self {
            assert!(x.len() >= Self::WIDTH);
            // SAFETY: as above, and there are the eight numbers that are read. They are the upper halves of theirs in f32.
            Self(unsafe {
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            })
        }

        #[inline(always)]
        fn store(self, out: &mut [f32]) {
            assert!(out.len() >= Self::WIDTH);
            // SAFETY: as above, and there is room for the eight numbers that are written.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: `with_avx2` is further up.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn times(self, by: Self) -> Self {
            // SAFETY: `with_avx2` is further up.
            Self(unsafe { _mm256_mul_ps(self.0, by.0) })
        }
    }
}
