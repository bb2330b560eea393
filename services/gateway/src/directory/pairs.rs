//! Pairs of catalog values that break a rule newer than they are: they were accepted before the rule existed,
//! and are reported. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use catalog::{InstancePlace, Source, Tenant};
use metering::{SourceId, TenantId};

/// How many others are named for each value.
const OTHERS_MAX: usize = 10;

/// Active sources that collect the same n8n, each with the others: every execution is counted once for each
/// of them.
pub fn same_address(sources: &[Source]) -> HashMap<SourceId, Vec<String>> {
    let active = sources.iter().filter(|source| !source.paused);
    let groups = grouped(active, |source| Some(InstancePlace::of(&source.base_url)));
    let each = groups.iter().flat_map(|group| {
        group.iter().map(|source| {
            let others = group.iter().filter(|other| other.id != source.id);
            (source.id.clone(), others.take(OTHERS_MAX).map(|other| other.id.to_string()).collect())
        })
    });
    each.filter(|(_, others): &(_, Vec<String>)| !others.is_empty()).collect()
}

/// Tenants with the same Stripe customer as another one, unless both have `shared_customer`.
pub fn same_customer(tenants: &BTreeMap<TenantId, Tenant>) -> HashMap<TenantId, Vec<String>> {
    let groups = grouped(tenants.values(), |tenant| tenant.stripe_customer.clone());
    let each = groups.iter().flat_map(|group| {
        group.iter().map(|tenant| {
            let is_meant = |other: &Tenant| tenant.shared_customer && other.shared_customer;
            let others = group.iter().filter(|other| other.id != tenant.id && !is_meant(other));
            (tenant.id.clone(), others.take(OTHERS_MAX).map(|other| other.id.to_string()).collect())
        })
    });
    each.filter(|(_, others): &(_, Vec<String>)| !others.is_empty()).collect()
}

fn grouped<'a, T, K: Eq + Hash>(
    values: impl Iterator<Item = &'a T>,
    key: impl Fn(&T) -> Option<K>,
) -> Vec<Vec<&'a T>> {
    let mut groups: HashMap<K, Vec<&T>> = HashMap::new();
    for value in values {
        if let Some(key) = key(value) {
            groups.entry(key).or_default().push(value);
        }
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use catalog::Entry as _;
    use proto::v1;

    use super::*;

    fn source(id: &str, base_url: &str, paused: bool) -> Source {
        Source::from_wire(v1::Source {
            source_id: id.into(),
            tenant_id: "north".into(),
            kind: v1::SourceKind::N8n.into(),
            base_url: base_url.into(),
            sealed_api_key: vec![1].into(),
            paused,
            ..v1::Source::default()
        })
        .unwrap()
    }

    #[test]
    fn sources_of_one_n8n_name_each_other() {
        let sources = [
            source("a", "https://n8n.example", false),
            source("b", "http://N8N.example./", false),
            source("c", "https://other.example", false),
            source("d", "https://other.example", true),
        ];
        let pairs = same_address(&sources);
        let of = |id: &str| pairs.get(&SourceId::parse(id).unwrap()).cloned();
        assert_eq!(of("a"), Some(vec!["b".to_owned()]));
        assert_eq!(of("b"), Some(vec!["a".to_owned()]));
        assert_eq!((of("c"), of("d")), (None, None), "one of them is paused");
    }

    #[test]
    fn tenants_of_one_customer_name_those_that_do_not_share_it_on_purpose() {
        let tenant = |id: &str, customer: &str, shared_customer| {
            let wire = v1::Tenant {
                tenant_id: id.into(),
                name: id.into(),
                plan_id: "pro".into(),
                stripe_customer_id: customer.into(),
                shared_customer,
                ..v1::Tenant::default()
            };
            let tenant = Tenant::from_wire(wire).unwrap();
            (tenant.id.clone(), tenant)
        };
        let tenants = BTreeMap::from([
            tenant("a", "cus_1", true),
            tenant("b", "cus_1", true),
            tenant("c", "cus_1", false),
            tenant("d", "", false),
            tenant("e", "", false),
        ]);
        let pairs = same_customer(&tenants);
        let of = |id: &str| pairs.get(&TenantId::parse(id).unwrap()).map(|others| others.join(" "));
        assert_eq!(of("a").as_deref(), Some("c"));
        assert_eq!(of("b").as_deref(), Some("c"));
        assert_eq!(of("c").as_deref(), Some("a b"));
        assert_eq!((of("d"), of("e")), (None, None), "they have none");
    }
}
