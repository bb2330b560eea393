//! Tokens: who may call, and as whom.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use metering::{SourceId, TenantId};
use rand::CryptoRng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// Makes a leaked token recognisable.
const PREFIX: &str = "fm_";

/// The same for a source's push token. The collector reads the source's id that follows it.
const PUSH_PREFIX: &str = "fmp_";

/// 256 bits of randomness.
const SECRET_BYTES: usize = 32;

/// 32 bytes in base64 without padding.
const SECRET_CHARS: usize = 43;

/// The identity behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Sees and changes everything.
    Operator,
    /// Sees its own usage and limit.
    Tenant(TenantId),
}

impl Principal {
    /// The tenant, if it is one.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Operator => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }

    /// Whether it may see what belongs to `tenant`.
    pub fn may_see(&self, tenant: &TenantId) -> bool {
        self.tenant().is_none_or(|own| own == tenant)
    }
}

/// The stored record of a token.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    /// Identifies it.
    pub id: Uuid,
    /// The owner.
    pub principal: Principal,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The SHA-256 of a token or session id. Enough against 256 bits of randomness: there is nothing to guess.
#[derive(Clone)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of a secret.
    pub fn of(secret: &SecretString) -> Self {
        Self(Sha256::digest(secret.expose_secret().as_bytes()).into())
    }

    /// A stored hash.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The hash itself, for comparison elsewhere.
    pub fn into_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are equal, compared in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

/// A new token or session id.
pub fn generate(random: &mut impl CryptoRng) -> SecretString {
    format!("{PREFIX}{}", secret(random)).into()
}

/// A new push token for a source. It contains the source's id, so that the collector needs one row to check
/// it.
pub fn generate_for_push(random: &mut impl CryptoRng, source: &SourceId) -> SecretString {
    format!("{PUSH_PREFIX}{source}.{}", secret(random)).into()
}

/// The source that a push token names; `None` if it is not a push token.
pub fn source_of_push_token(token: &str) -> Option<SourceId> {
    let (source, _) = token.strip_prefix(PUSH_PREFIX)?.split_once('.')?;
    SourceId::parse(source).ok()
}

fn secret(random: &mut impl CryptoRng) -> String {
    let mut bytes = [0_u8; SECRET_BYTES];
    random.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether the text could be a token of ours; saves a query for one that cannot exist.
pub fn is_well_formed(text: &SecretString) -> bool {
    text.expose_secret()
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.len() == SECRET_CHARS && rest.bytes().all(|byte| byte.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn tokens_are_well_formed_and_differ() {
        let mut random = StdRng::seed_from_u64(7);
        let (one, two) = (generate(&mut random), generate(&mut random));
        assert!(is_well_formed(&one) && is_well_formed(&two));
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert!(Hash::of(&one).matches(&Hash::of(&one)) && !Hash::of(&one).matches(&Hash::of(&two)));
        for bad in ["", "fm_", "fm_short", "xx_0123456789012345678901234567890123456789012"] {
            assert!(!is_well_formed(&bad.into()), "{bad}");
        }
    }

    #[test]
    fn a_push_token_names_its_source_and_is_no_api_token() {
        let source = SourceId::parse("north-n8n").unwrap();
        let token = generate_for_push(&mut StdRng::seed_from_u64(7), &source);
        let secret = token.expose_secret().strip_prefix("fmp_north-n8n.").unwrap();
        assert_eq!(secret.len(), SECRET_CHARS);
        assert!(!is_well_formed(&token));
    }

    #[test]
    fn a_tenant_sees_only_itself() {
        let (north, south) = (TenantId::parse("north").unwrap(), TenantId::parse("south").unwrap());
        assert!(Principal::Operator.may_see(&south));
        assert!(Principal::Tenant(north.clone()).may_see(&north));
        assert!(!Principal::Tenant(north).may_see(&south));
    }
}
