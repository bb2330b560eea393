//! The key of a run, in memory and in the ledger.

use metering::TenantId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// 128 bits of the SHA-256 of the tenant and the caller's id of the run. Two runs with one key would share an
/// answer; nobody can construct such a pair. The ledger keeps the key instead of the id: it is short whatever
/// the caller sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunKey([u8; KEY_BYTES]);

impl RunKey {
    /// The key of a tenant's run. The migration that introduced keys computes them in the same way.
    pub fn of(tenant: &TenantId, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(tenant.as_str());
        // No tenant id contains this byte, so it ends the id unambiguously.
        hash.update([0]);
        hash.update(id);
        let mut key = [0; KEY_BYTES];
        for (byte, hashed) in key.iter_mut().zip(hash.finalize()) {
            *byte = hashed;
        }
        Self(key)
    }

    /// A stored key.
    pub fn from_uuid(kept: Uuid) -> Self {
        Self(kept.into_bytes())
    }

    /// Its stored form.
    pub fn as_uuid(self) -> Uuid {
        Uuid::from_bytes(self.0)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; KEY_BYTES] {
        self.0
    }

    /// Its two halves.
    pub fn halves(self) -> [u64; 2] {
        let (first, second) = Uuid::from_bytes(self.0).as_u64_pair();
        [first, second]
    }
}

/// Longest id of a run.
pub const ID_CHARS_MAX: usize = 200;

/// Whether the text may identify a run: 1 to 200 printable characters.
pub fn is_admission_id(text: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, id: &str) -> RunKey {
        RunKey::of(&TenantId::parse(tenant).unwrap(), id)
    }

    #[test]
    fn a_key_never_changes_and_separates_tenant_and_id() {
        // printf 'north\0run-1' | sha256sum
        assert_eq!(key("north", "run-1").as_uuid().simple().to_string(), "89477cdebf6e32528eb76ed22cb40eec");
        assert_ne!(key("north", "1"), key("north1", ""));
        assert_ne!(key("north", "1"), key("south", "1"));
        assert_eq!(RunKey::from_uuid(key("north", "1").as_uuid()), key("north", "1"));
    }
}
