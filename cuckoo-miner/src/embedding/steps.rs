//! What happens to the vectors of texts once they are pooled.

use candle_core::Tensor;
use serde_json::json;

use super::layout::Kind;
use crate::kernels::{Activation, Kernels};
use crate::model::error::Result;
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::layers::Projection;
use crate::model::settings::Settings;
use crate::model::weights::Weights;

/// One step, from `[texts, width]` to the same or another width.
#[derive(Debug)]
pub(crate) enum Step {
    /// A linear layer and what is applied to each number after.
    Dense { layer: Projection, width: usize },
    /// Brings each vector to length 1.
    Normalize,
}

impl Step {
    /// Reads the step in the sub-folder `path`, which is given vectors of `width` numbers.
    pub(crate) fn load(
        folder: &mut Folder,
        kind: Kind,
        path: &str,
        width: usize,
        kernels: &dyn Kernels,
    ) -> Result<Self> {
        let file = format!("{path}/config.json");
        let mut s = match folder.has(&file) || kind == Kind::Dense {
            true => Settings::parse(&file, &folder.bytes(&file, SETTINGS_LIMIT)?)?,
            false => Settings::parse(&file, b"{}")?,
        };
        for key in ["module_input_name", "module_output_name"] {
            s.only(key, &[json!("sentence_embedding")])?;
        }
        if kind == Kind::Normalize {
            s.finish()?;
            return Ok(Self::Normalize);
        }
        let inputs = s.required("in_features", 1..=1 << 20)?;
        if inputs != width {
            let problem = format!("is {inputs}, and the step before gives {width} numbers");
            return Err(s.error("in_features", problem));
        }
        let outputs = s.required("out_features", 1..=1 << 20)?;
        let biased = s.flag("bias", true)?;
        let names = [
            ("torch.nn.modules.activation.Tanh", Activation::Tanh),
            ("torch.nn.modules.linear.Identity", Activation::Identity),
            ("torch.nn.modules.activation.GELU", Activation::Gelu),
            ("torch.nn.modules.activation.ReLU", Activation::Relu),
            ("torch.nn.modules.activation.SiLU", Activation::Silu),
        ];
        let activation = s.choice("activation_function", Activation::Tanh, &names)?;
        s.only("use_residual", &[json!(false)])?;
        s.finish()?;
        let weights = Weights::open(folder, path, "model", kernels.device())?;
        weights.fit(folder)?;
        let part = weights.part("");
        let layer = Projection::load(kernels, &part, &[("linear", outputs)], inputs, biased)?;
        weights.finish(&[])?;
        Ok(Self::Dense {
            layer: layer.activated(activation),
            width: outputs,
        })
    }

    /// The width of what comes out where `width` goes in.
    pub(crate) fn width(&self, width: usize) -> usize {
        match self {
            Self::Dense { width, .. } => *width,
            Self::Normalize => width,
        }
    }

    pub(crate) fn forward(&self, kernels: &dyn Kernels, x: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>> {
        match self {
            Self::Normalize => Ok(x.into_iter().map(normalized).collect()),
            Self::Dense { layer, .. } => {
                let (rows, width) = (x.len(), x.first().map_or(0, Vec::len));
                let x = Tensor::from_vec(x.concat(), (rows, width), kernels.device())?;
                Ok(layer.forward(kernels, &x)?.to_vec2()?)
            }
        }
    }
}

/// A vector over its length, of which one of nothing but zeros has none.
fn normalized(mut vector: Vec<f32>) -> Vec<f32> {
    let square: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    let length = square.sqrt().max(1e-12);
    vector
        .iter_mut()
        .for_each(|x| *x = (f64::from(*x) / length) as f32);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::CpuKernels;

    fn load(kind: Kind, settings: &str) -> Result<Step> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("2")).unwrap();
        std::fs::write(dir.path().join("2/config.json"), settings).unwrap();
        let mut folder = Folder::open(dir.path())?;
        Step::load(&mut folder, kind, "2", 3, &CpuKernels::new())
    }

    #[test]
    fn vectors_come_to_length_one() {
        assert_eq!(normalized(vec![3.0, 0.0, -4.0]), [0.6, 0.0, -0.8]);
        assert_eq!(normalized(vec![0.0, 0.0]), [0.0, 0.0]);
        let huge = 2.0_f32.powi(100);
        let long = normalized(vec![3.0 * huge, 4.0 * huge]);
        assert_eq!(long, [0.6, 0.8], "no overflow");
    }

    #[test]
    fn what_is_not_done_is_named() {
        let dense = |rest: &str| format!(r#"{{"in_features": 3, "out_features": 2{rest}}}"#);
        for (kind, settings, named) in [
            (Kind::Normalize, r#"{"p": 1}"#.to_owned(), "`p` is unknown"),
            (
                Kind::Normalize,
                r#"{"module_input_name": "token_embeddings"}"#.to_owned(),
                "module_input_name",
            ),
            (Kind::Dense, "{}".to_owned(), "in_features"),
            (Kind::Dense, dense("").replace('3', "4"), "in_features"),
            (
                Kind::Dense,
                dense(r#", "use_residual": true"#),
                "use_residual",
            ),
            (
                Kind::Dense,
                dense(r#", "activation_function": "somebody.Swish""#),
                "somebody.Swish",
            ),
            (Kind::Dense, dense(""), "2/model.safetensors"),
        ] {
            let message = load(kind, &settings).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
