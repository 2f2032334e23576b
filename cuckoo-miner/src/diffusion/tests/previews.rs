//! Pictures in the making.

use super::*;

fn shapes() -> ImageModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/shapes");
    ImageModel::load(&folder).unwrap()
}

/// Each square of `side` pixels as one, its mean.
fn shrunk(image: &Image, side: usize) -> Vec<f64> {
    let (width, height) = (image.width / side, image.height / side);
    let mut levels = Vec::new();
    for row in 0..height {
        for column in 0..width {
            for colour in 0..3 {
                let of_square = (0..side * side).map(|i| {
                    let (x, y) = (column * side + i % side, row * side + i / side);
                    f64::from(image.rgb[(y * image.width + x) * 3 + colour])
                });
                levels.push(of_square.sum::<f64>() / (side * side) as f64);
            }
        }
    }
    levels
}

/// Pearson's coefficient.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let centred = |values: &[f64]| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|value| value - mean).collect()
    };
    let (a, b) = (centred(a), centred(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

#[test]
fn a_preview_is_the_decoder_s_picture_in_small() {
    let pipeline = shapes();
    for (prompt, seed) in [
        ("a large red circle on a blue background", 5),
        ("a small yellow square on a black background", 6),
        ("a green triangle on a white background", 7),
    ] {
        let request = ImageRequest {
            prompt: prompt.to_owned(),
            seed,
            steps: 12,
            ..request()
        };
        let mut previews = Vec::new();
        let image = pipeline.generate(&request, &mut |progress| {
            previews.extend(progress.preview());
            ControlFlow::Continue(())
        });
        let image = image.unwrap();
        assert_eq!(previews.len(), 12, "one after each step, none before");
        let last = previews.last().unwrap();
        assert_eq!((last.width, last.height), (16, 16));
        let small = shrunk(&image, pipeline.size_multiple());
        let alike = correlation(&shrunk(last, 1), &small);
        assert!(alike > 0.6, "{prompt}: {alike}");
        // Nobody looked at this one.
        assert_eq!(image, pipeline.generate(&request, &mut go).unwrap());
        let again = pipeline.palette().unwrap();
        let other = shapes();
        let other = other.palette().unwrap();
        assert_eq!(format!("{again:?}"), format!("{other:?}"));
    }
}

#[test]
fn what_the_last_step_foresees_is_what_comes() {
    for pipeline in [shapes(), pipeline("random")] {
        for (sampler, most) in [
            (Sampler::Euler, 1e-3),
            (Sampler::EulerAncestral, 1e-3),
            (Sampler::DpmPlusPlus2M, 1e-3),
            (Sampler::DpmPlusPlus2MKarras, 1e-3),
            // Which may end at the first training step, where a little noise is left.
            (Sampler::Ddim, 0.1),
        ] {
            let request = ImageRequest {
                sampler: Some(sampler),
                steps: 6,
                ..request()
            };
            let mut foreseen = Vec::new();
            let noise = pipeline.noise(&request).unwrap();
            let latents = pipeline.denoise(&request, noise, &mut |progress| {
                if let Some(seen) = progress.seen {
                    foreseen = seen.foreseen();
                }
                ControlFlow::Continue(())
            });
            let latents = latents.unwrap();
            assert_eq!(foreseen.len(), latents.len());
            let norm = |values: &mut dyn Iterator<Item = f32>| {
                values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
            };
            let differences = &mut foreseen.iter().zip(&latents).map(|(a, b)| a - b);
            let off = norm(differences) / norm(&mut latents.iter().copied());
            assert!(off < most, "{sampler:?}: {off}");
        }
    }
}
