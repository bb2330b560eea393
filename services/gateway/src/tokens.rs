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

/// Makes a token recognisable where it has leaked to.
const PREFIX: &str = "fm_";

/// The same for a token with which a source pushes. The collector reads the source's id behind it.
const PUSH_PREFIX: &str = "fmp_";

/// 256 bits of randomness.
const SECRET_BYTES: usize = 32;

/// 32 bytes in base64 without padding.
const SECRET_CHARS: usize = 43;

/// As whom a request is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Sees and changes everything.
    Operator,
    /// Sees its own usage and limit.
    Tenant(TenantId),
}

impl Principal {
    /// The tenant, where it is one.
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

/// What is kept of a token.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    /// Names it.
    pub id: Uuid,
    /// Whose it is.
    pub principal: Principal,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was taken back.
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

    /// A hash as it was kept.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The hash itself, for those who compare it elsewhere.
    pub fn into_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The bytes to keep.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same, in a time that does not tell where they differ.
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

/// A new token with which a source pushes. It names its source: the collector then needs one row to check it.
pub fn generate_for_push(random: &mut impl CryptoRng, source: &SourceId) -> SecretString {
    format!("{PUSH_PREFIX}{source}.{}", secret(random)).into()
}

/// The source that a push token names; nothing where it is no push token.
pub fn source_of_push_token(token: &str) -> Option<SourceId> {
    let (source, _) = token.strip_prefix(PUSH_PREFIX)?.split_once('.')?;
    SourceId::parse(source).ok()
}

fn secret(random: &mut impl CryptoRng) -> String {
    let mut bytes = [0_u8; SECRET_BYTES];
    random.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether the text could be one of ours; saves asking the database for what cannot be there.
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
    fn a_push_token_names_its_source_and_opens_nothing_here() {
        let source = SourceId::parse("north-n8n").unwrap();
        let token = generate_for_push(&mut StdRng::seed_from_u64(7), &source);
        let secret = token.expose_secret().strip_prefix("fmp_north-n8n.").unwrap();
        assert_eq!(secret.len(), SECRET_CHARS);
        assert!(!is_well_formed(&token));
    }

    #[test]
    fn a_tenant_sees_itself_only() {
        let (north, south) = (TenantId::parse("north").unwrap(), TenantId::parse("south").unwrap());
        assert!(Principal::Operator.may_see(&south));
        assert!(Principal::Tenant(north.clone()).may_see(&north));
        assert!(!Principal::Tenant(north).may_see(&south));
    }
}
