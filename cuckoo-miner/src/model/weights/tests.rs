use std::collections::HashMap;
use std::rc::Rc;

use safetensors::tensor::TensorView;

use super::*;

const NAME: &str = "part/model.safetensors";

/// A folder whose `part/` has the given files.
fn folder(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("part")).unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join("part").join(name), content).unwrap();
    }
    let folder = Folder::open(dir.path()).unwrap();
    (dir, folder)
}

fn open(files: &[(&str, Vec<u8>)]) -> Result<Weights> {
    let (_dir, mut folder) = folder(files);
    Weights::open(&mut folder, "part", "model", &Device::Cpu)
}

fn file(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (
            *name,
            TensorView::new(*dtype, shape.to_vec(), data).unwrap(),
        )
    });
    safetensors::serialize(views, None::<HashMap<String, String>>).unwrap()
}

fn header(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn all_three_widths_are_read() {
    let half: Vec<u8> = [1.5_f32, -2.0]
        .iter()
        .flat_map(|x| f16::from_f32(*x).to_le_bytes())
        .collect();
    let brain: Vec<u8> = [1.5_f32, -2.0]
        .iter()
        .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
        .collect();
    let single: Vec<u8> = [1.5_f32, -2.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let weights = open(&[(
        "model.fp16.safetensors",
        file(&[
            ("x.half", Dtype::F16, &[2, 1, 1], &half),
            ("x.brain", Dtype::BF16, &[2], &brain),
            ("x.single", Dtype::F32, &[1, 2], &single),
        ]),
    )])
    .unwrap();
    let part = weights.part("x");
    for name in ["half", "brain", "single"] {
        assert!(weights.finish(&[]).is_err(), "{name} is not taken yet");
        assert!(part.has(name) && !part.has("other"));
        assert_eq!(
            part.tensor(name, &[2]).unwrap().to_vec1::<f32>().unwrap(),
            [1.5, -2.0]
        );
    }
    weights.finish(&[]).unwrap();
}

#[test]
fn shards_are_joined_by_their_index() {
    let one = file(&[("a", Dtype::F32, &[1], &[0; 4])]);
    let two = file(&[("b", Dtype::F32, &[1], &[0; 4])]);
    let index = |a: &str, b: &str| {
        format!(r#"{{"metadata": {{}}, "weight_map": {{"a": "{a}", "b": "{b}"}}}}"#).into_bytes()
    };
    let files = |index: Vec<u8>| {
        [
            ("1.safetensors", one.clone()),
            ("2.safetensors", two.clone()),
            ("model.safetensors.index.json", index),
        ]
    };
    let weights = open(&files(index("1.safetensors", "2.safetensors"))).unwrap();
    weights.part("").tensor("a", &[1]).unwrap();
    weights.part("").tensor("b", &[1]).unwrap();
    weights.finish(&[]).unwrap();
    for outside in ["../1.safetensors", "/etc/passwd", ".hidden", "sub\\\\x"] {
        let error = open(&files(index(outside, "2.safetensors")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("not a plain file name"),
            "{outside}: {error}"
        );
    }
    assert!(
        open(&files(index("1.safetensors", "3.safetensors")))
            .unwrap_err()
            .to_string()
            .contains("lacks part/3.safetensors")
    );
    let twice = [
        ("1.safetensors", one.clone()),
        ("2.safetensors", one.clone()),
        (
            "model.safetensors.index.json",
            index("1.safetensors", "2.safetensors"),
        ),
    ];
    assert!(
        open(&twice)
            .unwrap_err()
            .to_string()
            .contains("also in another shard")
    );
}

#[test]
fn damaged_files_are_refused_without_allocating_what_they_claim() {
    let good = file(&[("a", Dtype::F32, &[2], &[0; 8])]);
    let huge = |claim: u64| {
        let mut bytes = good.clone();
        bytes[..8].copy_from_slice(&claim.to_le_bytes());
        bytes
    };
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("short", good[..5].to_vec()),
        ("cut in the header", good[..20].to_vec()),
        ("cut in the data", good[..good.len() - 1].to_vec()),
        ("header longer than the file", huge(1 << 20)),
        ("header of 16 exabytes", huge(u64::MAX)),
        ("not JSON", header("{]", 0)),
        (
            "shape overflows",
            header(
                r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296, 4], "data_offsets": [0, 8]}}"#,
                8,
            ),
        ),
        (
            "shape beyond data",
            header(
                r#"{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}"#,
                8,
            ),
        ),
        (
            "data beyond file",
            header(
                r#"{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}"#,
                8,
            ),
        ),
        (
            "offsets reversed",
            header(
                r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}"#,
                8,
            ),
        ),
    ] {
        let error = open(&[("model.safetensors", bytes)])
            .expect_err(what)
            .to_string();
        assert!(error.contains(NAME), "{what}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let data = [0, 0, 0xc0, 0x7f, 0, 0, 0, 0]; // NaN, 0
    let weights = open(&[(
        "model.safetensors",
        file(&[
            ("a", Dtype::F32, &[2], &data),
            ("i", Dtype::I32, &[2], &[0; 8]),
        ]),
    )])
    .unwrap();
    let part = weights.part("");
    for (name, shape, problem) in [
        ("b", &[2][..], "is missing"),
        ("a", &[3], "has shape [2] where [3] is needed"),
        ("a", &[2, 2], "has shape"),
        ("a", &[2], "not finite"),
        ("i", &[2], "is I32"),
    ] {
        let error = part.tensor(name, shape).unwrap_err().to_string();
        assert!(
            error.contains(&format!("`{name}` {problem}")) || error.contains(problem),
            "{name}: {error}"
        );
    }
    assert!(
        weights
            .finish(&["i"])
            .unwrap_err()
            .to_string()
            .contains("`a` belongs to no layer")
    );
    assert!(
        open(&[])
            .unwrap_err()
            .to_string()
            .contains("lacks part/model.safetensors")
    );
}

#[test]
fn memory_is_that_of_what_is_held() {
    let content = file(&[
        ("narrow", Dtype::BF16, &[4, 8], &[0; 64]),
        ("norm", Dtype::BF16, &[8], &[0; 16]),
        ("wide", Dtype::F32, &[2, 8], &[0; 64]),
    ]);
    let (_dir, mut folder) = folder(&[("model.safetensors", content)]);
    let open = |folder: &mut Folder| Weights::open(folder, "part", "model", &Device::Cpu).unwrap();
    let weights = open(&mut folder);
    assert_eq!(weights.memory(), 2 * 32 + 4 * (8 + 16));
    let low_rank = LowRank {
        source: Rc::new(open(&mut folder)),
        down: "wide".to_owned(),
        up: "wide".to_owned(),
        factor: 1.0,
    };
    let mut changed = open(&mut folder);
    changed.add("norm", low_rank.clone());
    assert_eq!(changed.memory(), 160);
    changed.add("narrow", low_rank);
    assert_eq!(changed.memory(), 4 * (32 + 8 + 16));

    folder.free = || Some(159);
    let refused = weights.fit(&mut folder).unwrap_err();
    assert!(matches!(
        refused,
        Error::Memory {
            needed: 160,
            available: 159,
            ..
        }
    ));
    assert_eq!(folder.memory, 0);
    folder.free = || Some(160);
    weights.fit(&mut folder).unwrap();
    folder.free = || None;
    changed.fit(&mut folder).unwrap();
    assert_eq!(folder.memory, 160 + 224);
}
