//! LoRAs, merged and refused.

use super::*;

fn loras(names: &[(&str, f64)]) -> Vec<Lora> {
    let file = |name: &str| golden(&format!("loras/{name}.safetensors"));
    names
        .iter()
        .map(|(name, scale)| Lora {
            file: file(name),
            scale: *scale,
        })
        .collect()
}

fn with_loras(loras: &[Lora]) -> Result<ImageModel> {
    ImageModel::load_with_loras(&golden("random"), loras, Arc::new(CpuKernels::new()))
}

#[test]
fn loras_change_the_picture_and_the_models_name() {
    let plain = pipeline("random");
    let one = with_loras(&loras(&[("diffusers", 0.75)])).unwrap();
    let other = with_loras(&loras(&[("diffusers", 0.7)])).unwrap();
    let both = with_loras(&loras(&[("diffusers", 0.75), ("kohya", 1.0)])).unwrap();
    let models = [&plain, &one, &other, &both];
    for (i, first) in models.iter().enumerate() {
        for second in &models[i + 1..] {
            assert_ne!(first.model_hash(), second.model_hash());
            assert_ne!(
                first.generate(&request(), &mut go).unwrap(),
                second.generate(&request(), &mut go).unwrap()
            );
        }
    }
    // Sums of numbers in 16 bits are held in 32.
    assert!(plain.memory() < one.memory());
    // At a scale of 0 nothing changes but the name.
    let none = with_loras(&loras(&[("kohya", 0.0)])).unwrap();
    assert_ne!(none.model_hash(), plain.model_hash());
    assert_eq!(
        none.generate(&request(), &mut go).unwrap(),
        plain.generate(&request(), &mut go).unwrap()
    );
}

#[test]
fn loras_that_do_not_fit_are_refused_by_name() {
    let refused = |loras: &[Lora]| {
        let error = with_loras(loras).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        error.to_string()
    };
    // Made for the other pipeline, whose layers have other sizes.
    assert!(refused(&loras(&[("kohya_xl", 1.0)])).contains("does not fit"));
    assert!(refused(&loras(&[("nothing", 1.0)])).contains("there is no such file"));
    assert!(refused(&loras(&[("kohya", f64::NAN)])).contains("its scale is NaN"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lora.safetensors");
    let lora = [Lora {
        file: file.clone(),
        scale: 1.0,
    }];
    let whole = std::fs::read(&loras(&[("kohya", 1.0)])[0].file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(refused(&lora).contains("not a complete safetensors file"));
    let layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
    let (down, up) = (
        format!("{layer}.lora_down.weight"),
        format!("{layer}.lora_up.weight"),
    );
    let (down, up) = (down.as_str(), up.as_str());
    let write = |tensors: &[(&str, &[usize])]| {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| (*name, *shape, vec![0; shape.iter().product::<usize>() * 4]))
            .collect();
        let views = tensors.iter().map(|(name, shape, data)| {
            (
                *name,
                TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap(),
            )
        });
        let bytes = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
        std::fs::write(&file, bytes).unwrap();
    };
    write(&[(down, &[2, 20][..]), (up, &[20, 2][..])]);
    with_loras(&lora).unwrap();
    write(&[(down, &[2, 20][..])]);
    assert!(refused(&lora).contains("lacks its other half"));
    write(&[(down, &[2, 19][..]), (up, &[20, 2][..])]);
    assert!(refused(&lora).contains("does not fit"));
    let other = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight";
    write(&[
        (down, &[2, 20][..]),
        (up, &[20, 2][..]),
        (other, &[2, 20][..]),
    ]);
    let error = refused(&lora);
    assert!(
        error.contains("match no layer") && error.contains(other),
        "{error}"
    );
    let magnitude = format!("{layer}.dora_scale");
    write(&[
        (down, &[2, 20][..]),
        (up, &[20, 2][..]),
        (magnitude.as_str(), &[20][..]),
    ]);
    assert!(refused(&lora).contains("dora_scale"));
}
