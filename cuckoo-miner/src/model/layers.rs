//! Layers that models of several kinds are built of: learned tensors and the kernel that applies them.

use candle_core::{D, Tensor};

use super::error::Result;
use super::weights::Part;
use crate::kernels::{Activation, Kernels, Norm, Packed};

/// Multiplications of a layer from which several threads share it, rather than take texts apart.
pub(crate) const SHARED_FROM: usize = 8 << 20;

/// Computes a layer, of so many multiplications, as one of the threads that share it: from outside, each kernel would wait until
/// one of them wakes. One layer at a time, since a thread that waits for a part may take up another model's meanwhile.
pub(crate) fn shared<T: Send>(multiplications: usize, layer: impl FnOnce() -> T + Send) -> T {
    match multiplications >= SHARED_FROM {
        true => rayon::scope(|_| layer()),
        false => layer(),
    }
}

/// Linear layers with the same input, side by side, over its last dimension.
#[derive(Debug)]
pub(crate) struct Projection {
    weight: Packed,
    bias: Option<Tensor>,
    activation: Activation,
}

impl Projection {
    /// The layers `names`, each with the width of its output.
    pub(crate) fn load(
        kernels: &dyn Kernels,
        part: &Part<'_>,
        names: &[(&str, usize)],
        inputs: usize,
        biased: bool,
    ) -> Result<Self> {
        let weights = names
            .iter()
            .map(|(name, outputs)| part.at(name).tensor("weight", &[*outputs, inputs]))
            .collect::<Result<_>>()?;
        let biases = names
            .iter()
            .filter(|_| biased)
            .map(|(name, outputs)| part.at(name).tensor("bias", &[*outputs]))
            .collect::<Result<_>>()?;
        Self::of(kernels, weights, biases)
    }

    /// Layers of these weights, each `[out, in]`, and biases, if they have any.
    pub(crate) fn of(
        kernels: &dyn Kernels,
        weights: Vec<Tensor>,
        biases: Vec<Tensor>,
    ) -> Result<Self> {
        let join = |tensors: Vec<Tensor>| match <[Tensor; 1]>::try_from(tensors) {
            Ok([tensor]) => Ok(tensor),
            Err(tensors) => Tensor::cat(&tensors, 0),
        };
        let biased = !biases.is_empty();
        Ok(Self {
            weight: kernels.pack(&join(weights)?)?,
            bias: biased.then(|| join(biases)).transpose()?,
            activation: Activation::Identity,
        })
    }

    /// With this applied to what comes out.
    pub(crate) fn activated(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Of `x`, `[..., in]`, the layers' outputs side by side, `[..., out]`.
    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let inputs = x.dim(D::Minus1)?;
        let mut shape = x.dims().to_vec();
        shape.pop();
        let rows = x.reshape((shape.iter().product::<usize>(), inputs))?;
        shape.push(self.weight.outputs);
        let bias = self.bias.as_ref();
        let y = kernels.project(&rows, &self.weight, bias, self.activation)?;
        Ok(y.reshape(shape)?)
    }
}

/// Root-mean-square normalisation of the last dimension.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(part: &Part<'_>, width: usize, eps: f64) -> Result<Self> {
        Ok(Self::of(part.tensor("weight", &[width])?, eps))
    }

    /// That of this weight, one number a channel.
    pub(crate) fn of(weight: Tensor, eps: f64) -> Self {
        Self { weight, eps }
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        Ok(kernels.rms_norm(x, &self.weight, self.eps)?)
    }

    /// Normalises each head of `x`, `[tokens, heads * channels]`, by itself.
    pub(crate) fn by_head(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let depth = self.weight.elem_count();
        let heads = x.contiguous()?.reshape((rows * width / depth, depth))?;
        Ok(self.forward(kernels, &heads)?.reshape((rows, width))?)
    }
}

/// Layer normalisation of the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(part: &Part<'_>, width: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: part.tensor("weight", &[width])?,
            bias: part.tensor("bias", &[width])?,
            eps,
        })
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: &Tensor) -> Result<Tensor> {
        Ok(kernels.layer_norm(
            x,
            Norm {
                weight: &self.weight,
                bias: &self.bias,
                eps: self.eps,
            },
        )?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::CpuKernels;

    fn tensor(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..n).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    fn numbers(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_last_dimension_is_projected_whatever_comes_before() {
        let kernels = CpuKernels::new();
        let weights = vec![tensor(&[4, 3]), tensor(&[1, 3])];
        let biases = vec![tensor(&[4]), tensor(&[1])];
        let layer = Projection::of(&kernels, weights, biases).unwrap();
        let x = tensor(&[8, 3]);
        let expected = layer.forward(&kernels, &x).unwrap();
        assert_eq!(expected.dims(), [8, 5]);
        for before in [&[8][..], &[2, 4], &[2, 1, 4]] {
            let x = x.reshape([before, &[3]].concat()).unwrap();
            let y = layer.forward(&kernels, &x).unwrap();
            assert_eq!(y.dims(), [before, &[5]].concat());
            assert_eq!(numbers(&y), numbers(&expected));
        }
        let one = layer.forward(&kernels, &x.get(3).unwrap()).unwrap();
        assert_eq!(one.dims(), [5]);
        assert_eq!(numbers(&one), numbers(&expected.get(3).unwrap()));

        let turned = |x: &Tensor, width: usize| {
            let x = x.reshape((2, 4, width)).unwrap();
            x.transpose(0, 1).unwrap()
        };
        let y = layer.forward(&kernels, &turned(&x, 3)).unwrap();
        assert_eq!(numbers(&y), numbers(&turned(&expected, 5)));
    }

    #[test]
    fn inputs_of_another_width_are_refused() {
        let kernels = CpuKernels::new();
        let layer = Projection::of(&kernels, vec![tensor(&[4, 3])], Vec::new()).unwrap();
        // Six numbers are two rows of three, were they taken so.
        for shape in [&[1, 6][..], &[3, 2], &[]] {
            assert!(layer.forward(&kernels, &tensor(shape)).is_err());
        }
    }
}
