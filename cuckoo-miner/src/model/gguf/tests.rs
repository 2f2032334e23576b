use super::*;

/// A header with these keys (as written after their names) and tensors (name, dimensions, type, start), and bytes after it.
fn file(keys: &[(&str, Vec<u8>)], tensors: &[(&str, &[u64], u32, u64)], data: usize) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        bytes.extend(text(key));
        bytes.extend(value);
    }
    for (name, shape, kind, start) in tensors {
        bytes.extend(text(name));
        bytes.extend((shape.len() as u32).to_le_bytes());
        for size in *shape {
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(kind.to_le_bytes());
        bytes.extend(start.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn typed(kind: u32, value: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], value].concat()
}

fn list(kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
    let count = count.to_le_bytes();
    [&typed(9, &kind.to_le_bytes()), &count[..], values].concat()
}

fn parse(bytes: &[u8]) -> Result<Header> {
    Header::parse("x.gguf".to_owned(), bytes, bytes.len() as u64)
}

#[test]
fn all_types_of_values_are_read() {
    let texts = [text("a"), text("b c")].concat();
    let keys = [
        ("x.byte", typed(0, &[7])),
        ("x.less", typed(5, &(-3_i32).to_le_bytes())),
        ("x.part", typed(6, &1e-5_f32.to_le_bytes())),
        ("x.flag", typed(7, &[1])),
        ("x.text", typed(8, &text("word\0"))),
        ("x.texts", list(8, 2, &texts)),
        ("x.flags", list(7, 2, &[1, 0])),
        ("y.large", typed(10, &u64::MAX.to_le_bytes())),
    ];
    let header = parse(&file(&keys, &[("t", &[32, 2], 8, 32)], 100)).unwrap();
    assert_eq!(header.single("x.byte"), Some(&Json::from(7)));
    assert_eq!(header.single("x.less"), Some(&Json::from(-3)));
    assert_eq!(header.single("x.part"), Some(&Json::from(1e-5)));
    assert_eq!(header.single("x.flag"), Some(&Json::from(true)));
    assert_eq!(header.text("x.text").unwrap(), "word");
    assert_eq!(header.texts("x.texts").unwrap().unwrap(), ["a", "b c"]);
    assert_eq!(header.numbers("x.flags").unwrap().unwrap(), [1.0, 0.0]);
    assert_eq!(header.single("y.large"), Some(&Json::from(u64::MAX)));
    assert!(header.numbers("x.texts").is_err() && header.text("x.byte").is_err());
    assert!(header.texts("none").unwrap().is_none());
    let (name, place) = header.tensors().next().unwrap();
    assert_eq!(
        (name, place.shape.as_slice(), place.bytes),
        ("t", &[2, 32][..], 68)
    );
    assert!(place.start.is_multiple_of(32));
    let mut settings = header.settings("y.");
    assert_eq!(settings.take("y.large"), Some(Json::from(u64::MAX)));
    settings.finish().unwrap();
}

#[test]
fn what_is_false_is_named() {
    let whole = |value: u32| typed(4, &value.to_le_bytes());
    let one = |key: &str, value: Vec<u8>| file(&[(key, value)], &[], 0);
    let tensor = |shape: &[u64], kind, start| file(&[], &[("t", shape, kind, start)], 64);
    for (bytes, named) in [
        (b"GGUX".to_vec(), "beginning"),
        (b"GGUF\x01\0\0\0".to_vec(), "version 1"),
        (b"GGUF\0\0\0\x03".to_vec(), "version 50331648"),
        (one(ALIGNMENT, whole(0)), ALIGNMENT),
        (one(ALIGNMENT, whole(24)), ALIGNMENT),
        (one(ALIGNMENT, typed(8, &text("32"))), ALIGNMENT),
        (one("k", typed(13, &[0; 8])), "key `k` has type 13"),
        (one("k", typed(7, &[2])), "key `k`"),
        (
            one("k", typed(6, &f32::NAN.to_le_bytes())),
            "key `k` is not finite",
        ),
        (one("k", list(9, 1, &[0; 32])), "list of lists"),
        (one("k", list(8, u64::MAX, &[])), "key `k` needs"),
        (one("k", list(4, 1 << 40, &[])), "key `k` needs"),
        (one("k", typed(8, &u64::MAX.to_le_bytes())), "key `k` needs"),
        (
            file(&[("k", whole(1)), ("k", whole(1))], &[], 0),
            "key `k` is there twice",
        ),
        (
            file(&[], &[("t", &[1], 0, 0), ("t", &[1], 0, 0)], 64),
            "tensor `t` is there twice",
        ),
        (tensor(&[], 0, 0), "0 dimensions"),
        (tensor(&[1; 5], 0, 0), "5 dimensions"),
        (tensor(&[0, 2], 0, 0), "tensor `t` has shape"),
        (tensor(&[1 << 40, 1 << 40], 0, 0), "tensor `t` has shape"),
        (tensor(&[u64::MAX], 0, 0), "tensor `t` has shape"),
        (tensor(&[33], 8, 0), "whole blocks of 32"),
        (tensor(&[4], 16, 0), "type 16"),
        (tensor(&[4], 0, 3), "begins at 3"),
        (tensor(&[17], 0, 0), "takes 68 bytes"),
        (tensor(&[1], 0, 64), "takes 4 bytes"),
        (tensor(&[1], 0, 32_u64.wrapping_neg()), "takes 4 bytes"),
    ] {
        let message = parse(&bytes).unwrap_err().to_string();
        assert!(message.starts_with("x.gguf "), "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn no_beginning_of_a_header_is_a_header() {
    let whole = file(
        &[("k", list(8, 1, &text("abc"))), ("l", typed(7, &[1]))],
        &[("t", &[8], 0, 0)],
        32,
    );
    parse(&whole).unwrap();
    for length in 0..whole.len() {
        assert!(parse(&whole[..length]).is_err(), "{length} bytes");
    }
}
