//! Runs: what holds for every family, and for Stable Diffusion.

use serde_json::json;

use super::*;

#[test]
fn the_same_request_gives_the_same_bytes_on_any_number_of_threads() {
    // Large enough that the work is worth sharing.
    for (pipeline, width, height, steps) in [
        (pipeline("random"), 192, 192, 1),
        (pipeline("flux/schnell"), 96, 80, 2),
    ] {
        let request = ImageRequest {
            width: Some(width),
            height: Some(height),
            steps,
            ..request()
        };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| pipeline.generate(&request, &mut go).unwrap())
        };
        let one = on(1);
        assert_eq!((one.width, one.height), (width, height));
        for threads in [1, 2, 5] {
            assert_eq!(one, on(threads), "{threads}");
        }
        let other = ImageRequest {
            seed: 6,
            ..request.clone()
        };
        assert_ne!(one, pipeline.generate(&other, &mut go).unwrap());
    }
}

#[test]
fn progress_counts_steps_and_can_end_the_run() {
    let pipeline = pipeline("random");
    let image = drawn_in(3, &pipeline, &request());
    assert_eq!((image.width, image.height), pipeline.default_size());
    assert_eq!(image.rgb.len(), image.width * image.height * 3);

    let mut calls = 0;
    let error = pipeline
        .generate(&request(), &mut |progress| {
            calls += 1;
            if progress.step == 1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap_err();
    assert_eq!((error.kind(), calls), (ErrorKind::Cancelled, 3));
}

#[test]
fn every_multiple_is_a_size() {
    let pipeline = pipeline("random");
    // One latent; and sizes that halve unevenly on the way down.
    for (width, height) in [(4, 4), (4, 44), (100, 12)] {
        let request = ImageRequest {
            width: Some(width),
            height: Some(height),
            steps: 1,
            ..request()
        };
        let image = pipeline.generate(&request, &mut go).unwrap();
        assert_eq!(
            (image.width, image.height, image.rgb.len()),
            (width, height, width * height * 3)
        );
    }
}

#[test]
fn bad_requests_are_refused_before_any_work() {
    let pipeline = pipeline("random");
    assert_eq!(
        (pipeline.default_size(), pipeline.size_multiple()),
        ((56, 72), 4)
    );
    for bad in [
        ImageRequest {
            width: Some(57),
            ..request()
        },
        ImageRequest {
            steps: 501,
            ..request()
        },
        ImageRequest {
            guidance: f64::NAN,
            ..request()
        },
        ImageRequest {
            prompt: "x".repeat(1 << 20),
            ..request()
        },
    ] {
        assert_eq!(pipeline.check(&bad).unwrap_err().kind(), ErrorKind::Invalid);
        let drawn = pipeline.generate(&bad, &mut |_| panic!("a step was taken"));
        assert_eq!(drawn.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn latents_of_another_size_are_refused() {
    for pipeline in [pipeline("random"), pipeline("flux/schnell")] {
        let denoised = pipeline.denoise(&small(), vec![0.0; 7], &mut go);
        assert!(denoised.unwrap_err().to_string().contains("7 numbers"));
        let decoded = pipeline.decode(&small(), &[0.0; 7]);
        assert!(decoded.unwrap_err().to_string().contains("7 numbers"));
    }
}

#[test]
fn numbers_that_are_not_finite_never_become_a_picture() {
    for (pipeline, numbers) in [
        (pipeline("random"), 4 * 8 * 6),
        (pipeline("flux/schnell"), 5 * 16 * 12),
    ] {
        let mut noise = pipeline.noise(&small()).unwrap();
        assert_eq!(noise.len(), numbers);
        noise[3] = f32::NAN;
        let denoised = pipeline.denoise(&small(), noise.clone(), &mut go);
        assert_eq!(denoised.unwrap_err().kind(), ErrorKind::Execution);
        let decoded = pipeline.decode(&small(), &noise);
        assert_eq!(decoded.unwrap_err().kind(), ErrorKind::Execution);
    }
}

#[test]
fn pictures_begin_from_pictures() {
    for (pipeline, begun, strength, run) in [
        (pipeline("random"), picture(33, 26), 0.3, 3),
        // What is left out is rounded down, so that four are run.
        (pipeline("flux/dev"), picture(33, 29), 0.35, 4),
    ] {
        let request = ImageRequest {
            image: Some(begun),
            steps: 10,
            strength: Some(strength),
            ..request()
        };
        let image = drawn_in(run, &pipeline, &request);
        assert_eq!((image.width, image.height), (32, 24));
        assert_eq!(image, pipeline.generate(&request, &mut go).unwrap());
        let further = ImageRequest {
            strength: Some(0.9),
            ..request.clone()
        };
        assert_ne!(image, pipeline.generate(&further, &mut go).unwrap());
    }
}

#[test]
fn beginnings_that_do_not_fit_are_refused() {
    let begun = ImageRequest {
        image: Some(picture(33, 26)),
        steps: 10,
        strength: Some(0.3),
        ..request()
    };
    let refused = |pipeline: &ImageModel, request: ImageRequest, problem: &str| {
        let error = pipeline.check(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(problem), "{error}");
    };
    let (random, dev) = (pipeline("random"), pipeline("flux/dev"));
    let short = ImageRequest {
        steps: 3,
        ..begun.clone()
    };
    let problem = "`strength` is 0.3, of which 3 steps leave none";
    refused(&random, short, problem);
    let nowhere = ImageRequest {
        image: Some(picture(33, 29)),
        strength: Some(1e-30),
        ..begun.clone()
    };
    refused(&dev, nowhere, "`strength`");
    let mut broken = begun.clone();
    broken.image.as_mut().unwrap().rgb.pop();
    refused(&random, broken, "`rgb`");

    let copy = Copy::of("random");
    copy.convert(
        "vae/diffusion_pytorch_model.safetensors",
        Dtype::F16,
        |name| (!name.starts_with("encoder.")).then(|| name.to_owned()),
    );
    let problem = "decoder of its autoencoder alone";
    refused(&copy.load().unwrap(), begun, problem);
}

#[test]
fn larger_pictures_need_more_memory() {
    for (pipeline, side, range) in [
        (pipeline("random"), 256, 15.0..17.0),
        (pipeline("flux/dev"), 512, 14.0..17.0),
    ] {
        let memory = |side| {
            let request = ImageRequest {
                width: Some(side),
                height: Some(side),
                ..request()
            };
            pipeline.run_memory(&request).unwrap()
        };
        assert!(memory(64) > 64 * 64 * 3 * 4);
        let ratio = memory(4 * side) as f64 / memory(side) as f64;
        assert!(range.contains(&ratio), "{ratio}");
    }
}

#[test]
fn what_a_request_leaves_open_the_folder_decides() {
    let small = pipeline("random");
    assert_eq!((small.default_steps(), small.default_guidance()), (20, 2.0));
    let xl = pipeline("xl");
    assert_eq!((xl.default_steps(), xl.default_guidance()), (30, 5.0));
    let copy = Copy::of("random");
    let scheduler = "scheduler/scheduler_config.json";
    copy.set(scheduler, "_class_name", json!("EulerDiscreteScheduler"))
        .set(scheduler, "timestep_spacing", json!("trailing"))
        .set(scheduler, "rescale_betas_zero_snr", json!(false));
    let turbo = copy.load().unwrap();
    assert_eq!((turbo.default_steps(), turbo.default_guidance()), (4, 1.0));
}
