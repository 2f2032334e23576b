//! Signatures: only one form of each is accepted, and it names one signer.

use cuckoo_core::{B256, ErrorKind, Key, Signature, U256};

use super::survives;

/// Half of the order of secp256k1's group, from SEC 2: a signature's `s` is at most this (EIP-2).
const HALF_ORDER: U256 = U256::from_limbs([
    0xdfe9_2f46_681b_20a0,
    0x5d57_6e73_57a4_501d,
    u64::MAX,
    0x7fff_ffff_ffff_ffff,
]);

/// 65 bytes and a digest, then a key; the same bytes as text.
pub fn signature(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(signature) = text.parse::<Signature>()
    {
        assert_eq!(signature.to_string().len(), 132);
        survives(&signature);
    }
    let Some((bytes, rest)) = data.split_first_chunk::<65>() else {
        return;
    };
    let digest = word(rest);
    match Signature::from(*bytes).recover(digest) {
        Ok(signer) => {
            assert!([27, 28].contains(&bytes[64]));
            let s = U256::from_be_slice(&bytes[32..64]);
            assert!(s <= HALF_ORDER, "a high s is accepted");
            let twin = Signature::from(twin(bytes));
            assert!(twin.recover(digest).is_err(), "both forms are accepted");
            let other = Signature::from(*bytes).recover(word(&digest.0[..31]));
            assert!(digest.0[31] == 0 || other.ok() != Some(signer));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unverified),
    }
    if let Ok(key) = Key::from_bytes(word(&rest[rest.len().min(32)..])) {
        let signed = key.sign(digest);
        let signer = signed.recover(digest).expect("our own signature");
        assert_eq!(signer, key.address());
        let twin = Signature::from(twin(signed.as_bytes()));
        assert!(twin.recover(digest).is_err());
    }
}

/// The other form of a signature: `s` negated.
pub(crate) fn twin(bytes: &[u8; 65]) -> [u8; 65] {
    let mut twin = *bytes;
    let s = U256::from_be_slice(&bytes[32..64]);
    // The order is odd: twice its half and one.
    let order = HALF_ORDER * U256::from(2) + U256::from(1);
    twin[32..64].copy_from_slice(&order.wrapping_sub(s).to_be_bytes::<32>());
    twin[64] = if bytes[64] == 27 { 28 } else { 27 };
    twin
}

/// The first 32 bytes, and zeros for those that are missing.
fn word(bytes: &[u8]) -> B256 {
    let mut word = [0; 32];
    let length = bytes.len().min(32);
    word[..length].copy_from_slice(&bytes[..length]);
    B256::from(word)
}
