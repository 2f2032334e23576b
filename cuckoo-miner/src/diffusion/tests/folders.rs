//! Folders: laid out otherwise, incomplete, damaged.

use super::*;

/// What no pipeline runs without.
const FILES: [(&str, &[&str]); 2] = [
    (
        "random",
        &[
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/vocab.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ],
    ),
    (
        "flux/dev",
        &[
            "scheduler/scheduler_config.json",
            "text_encoder/model.safetensors",
            "text_encoder_2/config.json",
            "text_encoder_2/model.safetensors",
            "tokenizer/vocab.json",
            "tokenizer_2/tokenizer.json",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        ],
    ),
];

#[test]
fn other_layouts_of_the_same_weights_give_the_same_picture() {
    let expected = pipeline("random").generate(&request(), &mut go).unwrap();
    let copy = Copy::of("random");
    // As transformers 5 writes a text encoder.
    copy.convert("text_encoder/model.safetensors", Dtype::F16, |name| {
        name.strip_prefix("text_model.").map(str::to_owned)
    });
    // As an old autoencoder, without its encoder, in full width.
    copy.convert(
        "vae/diffusion_pytorch_model.safetensors",
        Dtype::F32,
        |name| {
            let mut name = name.to_owned();
            for (new, old) in [
                ("to_q.", "query."),
                ("to_k.", "key."),
                ("to_v.", "value."),
                ("to_out.0.", "proj_attn."),
            ] {
                name = name.replace(new, old);
            }
            (!name.starts_with("encoder.")).then_some(name)
        },
    );
    copy.convert(
        "unet/diffusion_pytorch_model.safetensors",
        Dtype::F32,
        |name| Some(name.to_owned()),
    );
    let other = copy.load().unwrap();
    assert_eq!(other.generate(&request(), &mut go).unwrap(), expected);
    assert_ne!(other.model_hash(), pipeline("random").model_hash());
}

#[test]
fn missing_files_are_named() {
    for (pipeline, files) in FILES {
        for file in files {
            let copy = Copy::of(pipeline);
            std::fs::remove_file(copy.path(file)).unwrap();
            assert!(copy.refusal().contains(file), "{pipeline}: {file}");
        }
    }
    let error = ImageModel::load(Path::new("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn truncated_files_are_refused() {
    for (pipeline, files) in FILES {
        for file in files {
            let copy = Copy::of(pipeline);
            let bytes = std::fs::read(copy.path(file)).unwrap();
            std::fs::write(copy.path(file), &bytes[..bytes.len() / 2]).unwrap();
            assert!(copy.refusal().contains(file), "{pipeline}: {file}");
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let copy = Copy::of("flux/dev");
    let file = "transformer/diffusion_pytorch_model.safetensors";
    let mut bytes = std::fs::read(copy.path(file)).unwrap();
    // The last number of the last tensor, in half width: an infinity.
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&[0x00, 0x7c]);
    std::fs::write(copy.path(file), bytes).unwrap();
    let error = copy.refusal();
    assert!(
        error.contains(file) && error.contains("not finite"),
        "{error}"
    );
}
