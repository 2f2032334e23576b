//! What is asked of a pipeline, and the limits of it.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::image::Image;

/// Longest prompt, in bytes. The text encoders see the first 75 words or so; the rest is cut.
const PROMPT_LIMIT: usize = 16 * 1024;
/// Most pixels of a picture: 2048 x 2048.
pub(super) const PIXELS_LIMIT: usize = 1 << 22;
/// Longest side in pixels.
pub(super) const SIDE_LIMIT: usize = 8_192;
/// Most steps: more than any schedule gains from.
const STEPS_LIMIT: usize = 1_000;
/// Highest guidance.
const GUIDANCE_LIMIT: f64 = 100.0;

/// A picture to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRequest {
    /// What the picture should show; at most 16 KiB.
    pub prompt: String,
    /// What it should not show; only used when `guidance` is above 1, and refused by FLUX.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// The picture to begin from, in place of noise alone; resized where it has another size.
    #[serde(skip)]
    pub image: Option<Image>,
    /// How far to go from `image`, above 0 to 1: so many of the steps are run, and at 1 hardly anything of it is left. 0.8
    /// when absent; nothing without an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Width in pixels; when absent that of `image`, or else the model's own. A multiple of [`size_multiple`].
    ///
    /// [`size_multiple`]: super::ImageModel::size_multiple
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Height in pixels; as `width`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// Denoising steps, 1 to 1000.
    pub steps: usize,
    /// How strongly the prompt pulls, 0 to 100 (classifier-free guidance, Ho and Salimans, 2022). Up to 1 there is no
    /// guidance, and a step costs half. FLUX.1 is told it as a number, or, where it was distilled to few steps, does not look
    /// at it.
    pub guidance: f64,
    /// Picks the initial noise; chosen by the coordinator.
    pub seed: u64,
    /// How to step from noise to picture; as the model's folder says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
}

/// A way from noise to picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Sampler {
    /// Denoising diffusion implicit models (Song, Meng and Ermon, 2021).
    Ddim,
    /// Euler's method on the probability flow (Karras et al., 2022).
    Euler,
    /// Euler's method with fresh noise at each step, known as "Euler a".
    EulerAncestral,
    /// DPM-Solver++ of second order in many steps (Lu et al., 2022), as the model's folder sets it up.
    #[serde(rename = "dpmpp_2m")]
    DpmPlusPlus2M,
    /// The same over the noise levels of Karras et al., whatever the folder says of those.
    #[serde(rename = "dpmpp_2m_karras")]
    DpmPlusPlus2MKarras,
}

/// A picture's size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl ImageRequest {
    /// How far a run goes from its picture when the request does not say.
    pub(crate) const STRENGTH: f64 = 0.8;

    /// Checks every field; returns the size, `default` where none is asked for. Sides must be multiples of `multiple`.
    pub(crate) fn check(&self, default: Size, multiple: usize) -> Result<Size> {
        for (field, prompt) in [
            ("prompt", Some(&self.prompt)),
            ("negative_prompt", self.negative_prompt.as_ref()),
        ] {
            if let Some(long) = prompt.filter(|prompt| prompt.len() > PROMPT_LIMIT) {
                return Err(Error::request(
                    field,
                    format!("has {} bytes; at most {PROMPT_LIMIT} are taken", long.len()),
                ));
            }
        }
        if !(1..=STEPS_LIMIT).contains(&self.steps) {
            return Err(Error::request(
                "steps",
                format!("is {}; 1 to {STEPS_LIMIT} are run", self.steps),
            ));
        }
        if !(0.0..=GUIDANCE_LIMIT).contains(&self.guidance) {
            return Err(Error::request(
                "guidance",
                format!("is {}; 0 to {GUIDANCE_LIMIT} is run", self.guidance),
            ));
        }
        if let Some(strength) = self.strength {
            if self.image.is_none() {
                return Err(Error::request("strength", "is given without an image"));
            }
            if !(strength > 0.0 && strength <= 1.0) {
                let problem = format!("is {strength}; above 0 and at most 1 is run");
                return Err(Error::request("strength", problem));
            }
        }
        let default = match &self.image {
            Some(image) => {
                image.check()?;
                let down = |side: usize| (side / multiple * multiple).max(multiple);
                Size {
                    width: down(image.width),
                    height: down(image.height),
                }
            }
            None => default,
        };
        let size = Size {
            width: self.width.unwrap_or(default.width),
            height: self.height.unwrap_or(default.height),
        };
        for (field, side) in [("width", size.width), ("height", size.height)] {
            if side == 0 || side > SIDE_LIMIT || !side.is_multiple_of(multiple) {
                let problem = format!(
                    "is {side}; this model makes multiples of {multiple} up to {SIDE_LIMIT}"
                );
                return Err(Error::request(field, problem));
            }
        }
        if size.width * size.height > PIXELS_LIMIT {
            return Err(Error::request(
                "width",
                format!("times height is above {PIXELS_LIMIT} pixels"),
            ));
        }
        Ok(size)
    }

    /// How far to go from the picture, for a request that has one.
    pub(crate) fn strength(&self) -> Option<f64> {
        let strength = self.strength.unwrap_or(Self::STRENGTH);
        self.image.as_ref().map(|_| strength)
    }

    /// Whether the prompt pulls at all: then each step runs the denoiser with it and without it.
    pub(crate) fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ImageRequest {
        serde_json::from_str(
            r#"{"prompt": "a red circle", "steps": 10, "guidance": 2.5, "seed": 7}"#,
        )
        .unwrap()
    }

    const DEFAULT: Size = Size {
        width: 64,
        height: 64,
    };

    #[test]
    fn defaults_come_from_the_model() {
        assert_eq!(request().check(DEFAULT, 8).unwrap(), DEFAULT);
        let wide = ImageRequest {
            width: Some(128),
            ..request()
        };
        assert_eq!(
            wide.check(DEFAULT, 8).unwrap(),
            Size {
                width: 128,
                height: 64
            }
        );
    }

    #[test]
    fn a_picture_brings_its_size() {
        let begun = |width, height| ImageRequest {
            image: Some(Image {
                width,
                height,
                rgb: vec![0; width * height * 3],
            }),
            ..request()
        };
        let size = |request: ImageRequest| {
            let size = request.check(DEFAULT, 8).unwrap();
            (size.width, size.height)
        };
        assert_eq!(size(begun(31, 3)), (24, 8));
        let wide = ImageRequest {
            width: Some(48),
            ..begun(31, 16)
        };
        assert_eq!(size(wide.clone()), (48, 16));
        assert_eq!(wide.strength(), Some(ImageRequest::STRENGTH));
        assert_eq!(request().strength(), None);
        for strength in [0.0, 1.01, -1.0, f64::NAN] {
            let bad = ImageRequest {
                strength: Some(strength),
                ..begun(8, 8)
            };
            let error = bad.check(DEFAULT, 8).unwrap_err().to_string();
            assert!(error.contains("`strength`"), "{error}");
        }
        let alone = ImageRequest {
            strength: Some(0.5),
            ..request()
        };
        assert!(alone.check(DEFAULT, 8).is_err());
    }

    #[test]
    fn every_field_is_bounded() {
        for (field, bad) in [
            (
                "prompt",
                ImageRequest {
                    prompt: "x".repeat(PROMPT_LIMIT + 1),
                    ..request()
                },
            ),
            (
                "negative_prompt",
                ImageRequest {
                    negative_prompt: Some("x".repeat(PROMPT_LIMIT + 1)),
                    ..request()
                },
            ),
            (
                "steps",
                ImageRequest {
                    steps: 0,
                    ..request()
                },
            ),
            (
                "steps",
                ImageRequest {
                    steps: 1_001,
                    ..request()
                },
            ),
            (
                "guidance",
                ImageRequest {
                    guidance: f64::NAN,
                    ..request()
                },
            ),
            (
                "guidance",
                ImageRequest {
                    guidance: -0.5,
                    ..request()
                },
            ),
            (
                "guidance",
                ImageRequest {
                    guidance: f64::INFINITY,
                    ..request()
                },
            ),
            (
                "width",
                ImageRequest {
                    width: Some(0),
                    ..request()
                },
            ),
            (
                "width",
                ImageRequest {
                    width: Some(65),
                    ..request()
                },
            ),
            (
                "height",
                ImageRequest {
                    height: Some(usize::MAX / 8 * 8),
                    ..request()
                },
            ),
            (
                "width",
                ImageRequest {
                    width: Some(4_096),
                    height: Some(4_096),
                    ..request()
                },
            ),
        ] {
            let error = bad.check(DEFAULT, 8).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = r#"{"prompt": "x", "steps": 1, "guidance": 1, "seed": 1, "clip_skip": 2}"#;
        assert!(
            serde_json::from_str::<ImageRequest>(text)
                .unwrap_err()
                .to_string()
                .contains("clip_skip")
        );
    }
}
