//! Keys of operators and owners: secp256k1, low-S recoverable signatures, addresses as Ethereum derives them.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use alloy::primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
use serde::{Deserialize, Serialize};

use crate::{Entropy, Error, OsEntropy, Result};

/// The curve's tables, blinded once a process: defence in depth against timing attacks, without effect on any result.
/// Blinding anew at each signature, as later versions of the library do, would take as long as the signature.
static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(|| {
    let mut curve = Secp256k1::new();
    if let Ok(entropy) = OsEntropy::new() {
        curve.seeded_randomize(&entropy.word().0);
    }
    curve
});

/// A secret key. Its `Debug` shows the address only.
#[derive(Clone)]
pub struct Key {
    secret: SecretKey,
    address: Address,
}

impl Key {
    /// A fresh key.
    pub fn random(entropy: &dyn Entropy) -> Self {
        loop {
            // All but about 2^-128 of words are valid keys.
            if let Ok(key) = Self::from_bytes(entropy.word()) {
                return key;
            }
        }
    }

    /// The key whose secret is `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the number is zero or not below the curve's order.
    pub fn from_bytes(bytes: B256) -> Result<Self> {
        let secret = SecretKey::from_byte_array(bytes.0).map_err(|_| {
            Error::invalid("this is not a secp256k1 secret key: it is zero or too large")
        })?;
        let address = address_of(&PublicKey::from_secret_key(&CURVE, &secret));
        Ok(Self { secret, address })
    }

    /// The secret itself, for keystores and transaction signers.
    pub fn secret_bytes(&self) -> B256 {
        B256::from(self.secret.secret_bytes())
    }

    /// The address that names this key on chain.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a 32-byte digest, deterministically (RFC 6979).
    pub fn sign(&self, digest: B256) -> Signature {
        let signature = CURVE.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret);
        let (recovery, compact) = signature.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = 27 + i32::from(recovery) as u8;
        Signature(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A signature as contracts take it: r, s, v (27 or 28); 65 bytes, written as 0x and 130 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^0x[0-9a-fA-F]{130}$")]
pub struct Signature([u8; 65]);

impl Signature {
    /// The address whose key made this signature over `digest`.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`](crate::ErrorKind::Unverified) when it is malformed, or has the high-S twin form that
    /// contracts refuse.
    pub fn recover(&self, digest: B256) -> Result<Address> {
        let malformed = || Error::unverified("the signature is malformed");
        let v = self.0[64].checked_sub(27).ok_or_else(malformed)?;
        let recovery = RecoveryId::try_from(i32::from(v)).map_err(|_| malformed())?;
        if v > 1 {
            return Err(malformed());
        }
        let signature =
            RecoverableSignature::from_compact(&self.0[..64], recovery).map_err(|_| malformed())?;
        let standard = signature.to_standard();
        let mut normalized = standard;
        normalized.normalize_s();
        if normalized != standard {
            return Err(Error::unverified(
                "the signature is in its high-S form; sign again with a low S (EIP-2)",
            ));
        }
        let public = CURVE
            .recover_ecdsa(Message::from_digest(digest.0), &signature)
            .map_err(|_| malformed())?;
        Ok(address_of(&public))
    }

    /// Checks that `signer` made this signature over `digest`.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`](crate::ErrorKind::Unverified) when somebody else did.
    pub fn verify(&self, digest: B256, signer: Address) -> Result<()> {
        let recovered = self.recover(digest)?;
        if recovered != signer {
            return Err(Error::unverified(format!(
                "signed by {recovered}, expected {signer}"
            )));
        }
        Ok(())
    }

    /// The 65 bytes r, s, v.
    pub fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }
}

impl From<[u8; 65]> for Signature {
    fn from(bytes: [u8; 65]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Signature {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        alloy::hex::decode_to_array(text)
            .map(Self)
            .map_err(|_| Error::invalid("a signature is 0x and 130 hexadecimal digits"))
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&alloy::hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

fn address_of(public: &PublicKey) -> Address {
    // Uncompressed form without its leading 0x04, hashed; the last 20 bytes (Yellow Paper, appendix F).
    Address::from_slice(&keccak256(&public.serialize_uncompressed()[1..])[12..])
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{address, b256};

    use super::*;
    use crate::SeededEntropy;

    // The first account of anvil's well-known test mnemonic.
    const SECRET: B256 = b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");

    #[test]
    fn address_matches_ethereum() {
        let key = Key::from_bytes(SECRET).unwrap();
        assert_eq!(
            key.address(),
            address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
        );
    }

    #[test]
    fn signature_recovers_its_signer_and_nobody_else() {
        let entropy = SeededEntropy::from_number(7);
        let key = Key::random(&entropy);
        let digest = entropy.word();
        let signature = key.sign(digest);
        signature.verify(digest, key.address()).unwrap();
        assert_eq!(
            signature
                .verify(entropy.word(), key.address())
                .unwrap_err()
                .kind(),
            crate::ErrorKind::Unverified
        );
        let text = signature.to_string();
        assert_eq!(text.parse::<Signature>().unwrap(), signature);
    }

    #[test]
    fn high_s_twin_is_refused() {
        let key = Key::from_bytes(SECRET).unwrap();
        let digest = B256::repeat_byte(1);
        let mut bytes = *key.sign(digest).as_bytes();
        let order = alloy::primitives::U256::from_be_bytes(secp256k1::constants::CURVE_ORDER);
        let s = alloy::primitives::U256::from_be_slice(&bytes[32..64]);
        bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        bytes[64] = if bytes[64] == 27 { 28 } else { 27 };
        assert!(
            Signature::from(bytes)
                .recover(digest)
                .unwrap_err()
                .message()
                .contains("high-S")
        );
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        let key = Key::from_bytes(SECRET).unwrap();
        assert!(
            !format!("{key:?}")
                .to_lowercase()
                .contains("ac0974bec39a17e3")
        );
    }
}
