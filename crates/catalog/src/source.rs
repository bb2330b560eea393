//! An instance whose executions are collected.

use std::time::Duration;

use metering::{SourceId, TenantId};
use proto::{subjects::CatalogKind, v1};
use url::Url;

use crate::{
    Attribution, Entry, InvalidEntry, address,
    attribution::ATTRIBUTIONS_MAX,
    entry::{checked_duration, wire_duration},
    sealing::Sealed,
};

/// Shortest and longest time between sweeps that a source may ask for.
const POLL_INTERVAL_MIN: Duration = Duration::from_secs(1);
const POLL_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// An instance of n8n whose executions are collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its id, chosen by the operator.
    pub id: SourceId,
    /// The tenant of its executions, unless an attribution says otherwise; missing if only attributions do.
    pub tenant: Option<TenantId>,
    /// Parts of it that belong to other tenants.
    pub attributions: Vec<Attribution>,
    /// Where it is, without the API's path.
    pub base_url: Url,
    /// Its API key, readable by the collector only.
    pub api_key: Sealed,
    /// Time between sweeps; missing for the collector's default.
    pub poll_interval: Option<Duration>,
    /// Not swept while paused.
    pub paused: bool,
    /// SHA-256 of the token with which it pushes executions; missing if it may not push.
    pub push_token_sha256: Option<[u8; 32]>,
}

impl Entry for Source {
    type Wire = v1::Source;

    const KIND: CatalogKind = CatalogKind::Source;

    fn from_wire(wire: v1::Source) -> Result<Self, InvalidEntry> {
        match wire.kind() {
            v1::SourceKind::N8n => {}
            v1::SourceKind::Unspecified => return Err(InvalidEntry::field("kind", "use `n8n`")),
        }
        if wire.tenant_id.is_empty() && wire.attributions.is_empty() {
            return Err(InvalidEntry::field("tenant_id", "name a tenant, or attributions"));
        }
        Ok(Self {
            id: SourceId::parse(&wire.source_id)?,
            tenant: some_text(&wire.tenant_id).map(TenantId::parse).transpose()?,
            attributions: checked_attributions(wire.attributions)?,
            base_url: checked_url(&wire.base_url)?,
            api_key: Sealed::from_bytes(wire.sealed_api_key),
            poll_interval: checked_duration(
                "poll_interval",
                wire.poll_interval,
                &(POLL_INTERVAL_MIN..=POLL_INTERVAL_MAX),
            )?,
            paused: wire.paused,
            push_token_sha256: checked_hash(&wire.push_token_sha256)?,
        })
    }

    fn to_wire(&self, revision: u64) -> v1::Source {
        v1::Source {
            source_id: self.id.to_string(),
            revision,
            removed: false,
            tenant_id: self.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
            attributions: self.attributions.iter().map(Attribution::to_wire).collect(),
            kind: v1::SourceKind::N8n.into(),
            base_url: self.base_url.to_string(),
            sealed_api_key: self.api_key.to_bytes(),
            poll_interval: self.poll_interval.map(wire_duration),
            paused: self.paused,
            push_token_sha256: self.push_token_sha256.map(|hash| hash.to_vec().into()).unwrap_or_default(),
        }
    }

    fn to_message(&self, revision: u64) -> v1::CatalogEntry {
        v1::CatalogEntry { entry: Some(v1::catalog_entry::Entry::Source(self.to_wire(revision))) }
    }

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

fn checked_url(text: &str) -> Result<Url, InvalidEntry> {
    let invalid = || {
        InvalidEntry::field(
            "base_url",
            "use the address of n8n's editor, such as https://n8n.example.com: http or https, without user, query or fragment",
        )
    };
    let url = Url::parse(text).map_err(|_| invalid())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain && url.fragment().is_none() {
        Ok(address::of_instance(url))
    } else {
        Err(invalid())
    }
}

fn checked_hash(bytes: &[u8]) -> Result<Option<[u8; 32]>, InvalidEntry> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let hash = bytes.try_into().map_err(|_| InvalidEntry::field("push_token_sha256", "must be 32 bytes"))?;
    Ok(Some(hash))
}

fn some_text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn checked_attributions(wires: Vec<v1::Attribution>) -> Result<Vec<Attribution>, InvalidEntry> {
    if wires.len() > ATTRIBUTIONS_MAX {
        return Err(InvalidEntry::field("attributions", format!("at most {ATTRIBUTIONS_MAX}")));
    }
    wires.into_iter().map(Attribution::from_wire).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::Source {
        v1::Source {
            source_id: "north-n8n".into(),
            tenant_id: "north".into(),
            kind: v1::SourceKind::N8n.into(),
            base_url: "https://n8n.north.example/base".into(),
            sealed_api_key: vec![1, 2, 3].into(),
            ..v1::Source::default()
        }
    }

    #[test]
    fn the_wire_gives_the_same_source_back() {
        let source = Source {
            poll_interval: Some(Duration::from_millis(1_500)),
            paused: true,
            push_token_sha256: Some([7; 32]),
            ..Source::from_wire(wire()).unwrap()
        };
        assert_eq!(Source::from_wire(source.to_wire(7)).unwrap(), source);
    }

    #[test]
    fn an_address_carries_no_secrets() {
        for bad in
            ["", "n8n.example", "ftp://x", "http://u:p@x", "http://x/?k=1", "http://x/#a", "file:///etc"]
        {
            assert!(Source::from_wire(v1::Source { base_url: bad.into(), ..wire() }).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_interval_is_bounded() {
        for seconds in [-1, 0, 86_401] {
            let poll_interval = Some(prost_types::Duration { seconds, nanos: 0 });
            assert!(Source::from_wire(v1::Source { poll_interval, ..wire() }).is_err(), "{seconds}");
        }
    }
}
