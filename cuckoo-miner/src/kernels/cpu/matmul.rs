//! Matrix products: a checked door to the `gemm` crate, whose interface is raw pointers.

use gemm::Parallelism;

/// Sizes of a product: `[rows, inner] x [inner, columns]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) inner: usize,
}

/// A matrix over borrowed elements: element (i, j) is at `i * row_step + j * column_step`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another, `step` elements apart.
    pub(super) fn rows(data: &'a [f32], step: usize) -> Self {
        Self {
            data,
            row_step: step,
            column_step: 1,
        }
    }

    /// Columns one after another, `step` elements apart: the transpose of [`Matrix::rows`].
    pub(super) fn columns(data: &'a [f32], step: usize) -> Self {
        Self {
            data,
            row_step: 1,
            column_step: step,
        }
    }

    /// Elements a `rows x columns` view touches.
    fn extent(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row_step + (columns - 1) * self.column_step + 1
    }
}

/// Longest inner dimension given to one call of `gemm`: it never splits that many, so the order of additions is ours
/// and does not depend on the cache sizes of the processor at hand.
const INNER: usize = 512;

/// Adds `left x right` to `out`, whose rows are `out_step` elements apart.
///
/// # Panics
/// When a slice is shorter than its shape says: a defect of the caller, checked here because `gemm` would not.
pub(super) fn add_product(
    shape: Shape,
    left: Matrix<'_>,
    right: Matrix<'_>,
    out: &mut [f32],
    out_step: usize,
) {
    let Shape {
        rows,
        columns,
        inner,
    } = shape;
    if rows == 0 || columns == 0 || inner == 0 {
        return;
    }
    assert!(
        left.extent(rows, inner) <= left.data.len(),
        "left matrix out of bounds"
    );
    assert!(
        right.extent(inner, columns) <= right.data.len(),
        "right matrix out of bounds"
    );
    assert!(
        columns <= out_step && (rows - 1) * out_step + columns <= out.len(),
        "result out of bounds"
    );
    for start in (0..inner).step_by(INNER) {
        let left_data = &left.data[start * left.column_step..];
        let right_data = &right.data[start * right.row_step..];
        let depth = INNER.min(inner - start);
        // SAFETY: the extents asserted above bound every element that the strides can reach, `out` is borrowed
        // mutably and its rows do not overlap (columns <= out_step).
        #[allow(unsafe_code)]
        unsafe {
            gemm::gemm(
                rows,
                columns,
                depth,
                out.as_mut_ptr(),
                1,
                out_step as isize,
                true,
                left_data.as_ptr(),
                left.column_step as isize,
                left.row_step as isize,
                right_data.as_ptr(),
                right.column_step as isize,
                right.row_step as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// The vector instructions `gemm` picks on this processor, which decide the rounding of a product.
pub(super) fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::arch::is_x86_feature_detected!("fma") {
            return "fma";
        }
    }
    std::env::consts::ARCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_the_product_for_every_layout_and_length() {
        for (rows, columns, inner) in [
            (1, 1, 1),
            (3, 5, 7),
            (16, 1, 33),
            (1, 40, 9),
            (20, 17, 1300),
        ] {
            let left: Vec<f32> = (0..rows * inner).map(|i| (i % 7) as f32 - 3.0).collect();
            let right: Vec<f32> = (0..inner * columns).map(|i| (i % 5) as f32 - 2.0).collect();
            let shape = Shape {
                rows,
                columns,
                inner,
            };
            let step = columns + 2;
            for transposed in [false, true] {
                let mut out = vec![1.0; rows * step];
                let at = |i: usize, j: usize| {
                    if transposed {
                        right[j * inner + i]
                    } else {
                        right[i * columns + j]
                    }
                };
                let matrix = if transposed {
                    Matrix::columns(&right, inner)
                } else {
                    Matrix::rows(&right, columns)
                };
                add_product(shape, Matrix::rows(&left, inner), matrix, &mut out, step);
                for i in 0..rows {
                    for j in 0..step {
                        let product = |k| left[i * inner + k] * at(k, j);
                        let expected = if j < columns {
                            1.0 + (0..inner).map(product).sum::<f32>()
                        } else {
                            1.0
                        };
                        assert_eq!(out[i * step + j], expected, "{shape:?} at {i},{j}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "right matrix out of bounds")]
    fn refuses_a_short_slice() {
        let shape = Shape {
            rows: 2,
            columns: 2,
            inner: 2,
        };
        add_product(
            shape,
            Matrix::rows(&[0.0; 4], 2),
            Matrix::rows(&[0.0; 3], 2),
            &mut [0.0; 4],
            2,
        );
    }
}
