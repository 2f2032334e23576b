//! Numbers as weights hold them: 16 bits where that loses nothing, widened to `f32` on the way into a register.
//!
//! Most models are published in 16 bits. Their weights take half the memory so, and a text's next token, for which every
//! weight is read once, takes little more than half the time; the arithmetic, and so each bit of a result, stays that
//! of `f32`.

use candle_core::{DType, WithDType};
use half::{bf16, f16};
use rayon::prelude::*;

use super::lanes::{LANES, Register};
use super::panel::Lane;

/// A kind of number that every `f32` register can be loaded from.
pub(super) trait Number: WithDType {
    /// The number that is `x`, or the nearest.
    fn narrow(x: f32) -> Self;

    fn widen(self) -> f32;

    /// The first [`Register::WIDTH`] numbers of `x`.
    ///
    /// # Panics
    /// When there are fewer.
    fn load<R: Register>(x: &[Self]) -> R;

    /// The panel in `f32`: its numbers widened into `room`, which has as many lanes or more.
    #[inline(always)]
    fn wide<'a, R: Register>(panel: &[[Self; LANES]], room: &'a mut [Lane]) -> &'a [Lane] {
        let room = &mut room[..panel.len()];
        for (wide, lane) in room.iter_mut().zip(panel) {
            for at in (0..LANES).step_by(R::WIDTH) {
                Self::load::<R>(&lane[at..]).store(&mut wide[at..]);
            }
        }
        room
    }
}

impl Number for f32 {
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn load<R: Register>(x: &[Self]) -> R {
        R::load(x)
    }
}

impl Number for f16 {
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Self::from_f32(x)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<R: Register>(x: &[Self]) -> R {
        R::load_f16(x)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Self::from_f32(x)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<R: Register>(x: &[Self]) -> R {
        R::load_bf16(x)
    }
}

/// The kind of the fewest bits that holds all of `numbers` as they are.
pub(super) fn narrowest(numbers: &[f32]) -> DType {
    if holds::<bf16>(numbers) {
        DType::BF16
    } else if holds::<f16>(numbers) {
        DType::F16
    } else {
        DType::F32
    }
}

fn holds<W: Number>(numbers: &[f32]) -> bool {
    numbers.par_chunks(1 << 16).all(|numbers| {
        let same = |x: &f32| W::narrow(*x).widen().to_bits() == x.to_bits();
        numbers.iter().all(same)
    })
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{Job, Plain, dispatch};
    use super::*;

    #[test]
    fn nothing_is_lost() {
        assert_eq!(narrowest(&[1.0, -0.5, 3.0e38]), DType::F32);
        assert_eq!(narrowest(&[1.0, -0.5, 1.0e-40]), DType::F32);
        assert_eq!(
            narrowest(&[0.0, -0.0, 255.0, 2.0_f32.powi(-126)]),
            DType::BF16
        );
        // Nine bits after the point: too many for bf16, and in the range of f16.
        assert_eq!(narrowest(&[1.0 + 1.0 / 512.0, 65_504.0]), DType::F16);
        assert_eq!(narrowest(&[1.0 + 1.0 / 512.0, 65_536.0]), DType::F32);
        assert_eq!(
            narrowest(&[1.0 + 1.0 / 512.0, 2.0_f32.powi(-24)]),
            DType::F16
        );
    }

    struct All<'a, W> {
        panel: &'a [[W; LANES]],
        out: &'a mut [Lane],
    }

    impl<W: Number> Job for All<'_, W> {
        #[inline(always)]
        fn run<R: Register>(self) {
            let wide = W::wide::<R>(self.panel, self.out).to_vec();
            self.out.copy_from_slice(&wide);
        }
    }

    fn every_finite_number<W: Number>(of_bits: fn(u16) -> W) {
        let all = (0..=u16::MAX).map(of_bits);
        let numbers: Vec<W> = all.filter(|number| number.widen().is_finite()).collect();
        let (panel, _) = numbers.as_chunks::<LANES>();
        for plain in [false, true] {
            let mut out = vec![[0.0; LANES]; panel.len()];
            let job = All {
                panel,
                out: &mut out,
            };
            match plain {
                true => job.run::<Plain>(),
                false => dispatch(job),
            }
            for (wide, number) in out.as_flattened().iter().zip(&numbers) {
                assert_eq!(wide.to_bits(), number.widen().to_bits());
            }
        }
    }

    #[test]
    fn every_instruction_set_widens_alike() {
        every_finite_number(f16::from_bits);
        every_finite_number(bf16::from_bits);
    }
}
