//! Secrets at rest. The gateway seals with a public key and cannot read back what it sealed; only the
//! collector holds the private key.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use crypto_box::{PublicKey, SecretKey, aead::OsRng};
use secrecy::{ExposeSecret, SecretString};

/// A sealed secret (X25519, XSalsa20-Poly1305, the construction known as "sealed box").
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// A key is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {0}: use 32 bytes in base64, as `flowmeter keys` prints them")]
pub struct InvalidKey(&'static str);

/// The secret cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret was sealed for another key, or is damaged; set it again")]
pub struct CannotOpen;

/// Seals secrets.
#[derive(Clone)]
pub struct SealingKey(PublicKey);

/// Opens what its pair has sealed.
#[derive(Clone)]
pub struct OpeningKey(SecretKey);

/// A new pair of keys, in base64.
pub struct KeyPair {
    /// For the gateway (`gateway.collector_public_key`).
    pub public: String,
    /// For the collector (`collector.secret_key`).
    pub secret: SecretString,
}

impl KeyPair {
    /// A new pair from the system's randomness.
    pub fn generate() -> Self {
        let secret = SecretKey::generate(&mut OsRng);
        Self {
            public: STANDARD.encode(secret.public_key().as_bytes()),
            secret: STANDARD.encode(secret.to_bytes()).into(),
        }
    }
}

impl SealingKey {
    /// Reads a public key from base64.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        Ok(Self(PublicKey::from(key_bytes(text).ok_or(InvalidKey("public key"))?)))
    }

    /// Seals a secret.
    pub fn seal(&self, secret: &SecretString) -> Sealed {
        // Fails only for messages longer than any that fit in memory.
        Sealed(self.0.seal(&mut OsRng, secret.expose_secret().as_bytes()).unwrap_or_default())
    }
}

impl OpeningKey {
    /// Reads a private key from base64.
    pub fn parse(text: &SecretString) -> Result<Self, InvalidKey> {
        Ok(Self(SecretKey::from(key_bytes(text.expose_secret()).ok_or(InvalidKey("private key"))?)))
    }

    /// The public key of this pair, in base64.
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_bytes())
    }

    /// Opens a secret.
    pub fn open(&self, sealed: &Sealed) -> Result<SecretString, CannotOpen> {
        let bytes = self.0.unseal(&sealed.0).map_err(|_| CannotOpen)?;
        String::from_utf8(bytes).map(SecretString::from).map_err(|_| CannotOpen)
    }
}

impl Sealed {
    /// A sealed secret as it was stored.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes to store.
    pub fn to_bytes<B: From<Vec<u8>>>(&self) -> B {
        self.0.clone().into()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

fn key_bytes(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pair_opens() {
        let pair = KeyPair::generate();
        let sealed = SealingKey::parse(&pair.public).unwrap().seal(&"key-north".into());
        let opened = OpeningKey::parse(&pair.secret).unwrap().open(&sealed).unwrap();
        assert_eq!(opened.expose_secret(), "key-north");

        let other = OpeningKey::parse(&KeyPair::generate().secret).unwrap();
        assert_eq!(other.open(&sealed).unwrap_err(), CannotOpen);
        assert_eq!(other.open(&Sealed::from_bytes(vec![1, 2])).unwrap_err(), CannotOpen);
    }

    #[test]
    fn sealed_bytes_do_not_hold_the_secret() {
        let pair = KeyPair::generate();
        let sealed = SealingKey::parse(&pair.public).unwrap().seal(&"key-north".into());
        let bytes: Vec<u8> = sealed.to_bytes();
        assert!(!bytes.windows(9).any(|window| window == b"key-north"));
        assert!(SealingKey::parse("short").is_err());
    }
}
