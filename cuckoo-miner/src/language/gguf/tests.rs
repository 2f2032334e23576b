use std::fs;

use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/gguf")
        .join(name)
}

#[test]
fn a_file_is_found_by_itself_and_alone_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    assert_eq!(find(dir.path()).unwrap(), None);
    assert_eq!(find(&file("none.gguf")).unwrap(), None);
    fs::write(file("a.gguf"), "").unwrap();
    fs::write(file("config.json"), "{}").unwrap();
    assert_eq!(find(dir.path()).unwrap(), Some(file("a.gguf")));
    fs::write(file("b.GGUF"), "").unwrap();
    let message = find(dir.path()).unwrap_err().to_string();
    assert!(
        message.contains("2 files") && message.contains("a.gguf"),
        "{message}"
    );
    assert_eq!(find(&file("b.GGUF")).unwrap(), Some(file("b.GGUF")));
    fs::write(file("model.safetensors"), "").unwrap();
    assert_eq!(find(dir.path()).unwrap(), None, "a folder of Hugging Face");
}

#[test]
fn a_file_is_the_folder_it_was_made_of() {
    let file = Gguf::open(&golden("llama/model.Q8_0.gguf")).unwrap();
    let mut folder = file.folder().unwrap();
    let mut config = Config::load(&mut folder).unwrap();
    assert!(!config.tied && !config.joined);
    let before = folder.hash();
    let weights = file
        .weights(&mut folder, &mut config, &Device::Cpu)
        .unwrap();
    assert_ne!(folder.hash(), before, "the file counts, documents do not");
    assert!(
        weights
            .part("model.layers.0.self_attn.q_proj")
            .has("weight")
    );
    assert!(!folder.has("chat_template.jinja"));
}

#[test]
fn other_architectures_are_refused_by_name() {
    let bytes = fs::read(golden("llama/model.Q8_0.gguf")).unwrap();
    let place = bytes.windows(5).position(|part| part == b"llama").unwrap();
    let mut other = bytes;
    other[place..place + 5].copy_from_slice(b"bloom");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    fs::write(&path, other).unwrap();
    let message = Gguf::open(&path).unwrap_err().to_string();
    assert!(
        message.starts_with("x.gguf") && message.contains("`bloom`"),
        "{message}"
    );
    assert!(!is_run(&path) && !is_run(dir.path()));
    assert!(is_run(&golden("llama")));
}
