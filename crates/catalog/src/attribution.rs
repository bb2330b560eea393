//! Which tenant an execution of a shared source belongs to.

use jiff::Timestamp;
use metering::{TenantId, WorkflowId};
use proto::{instant, timestamp, v1};

use crate::{InvalidEntry, Source};

/// Attributions of one source; every execution is compared with all of them.
pub(crate) const ATTRIBUTIONS_MAX: usize = 1_000;

/// Longest name of a tag and longest id of a project, in characters.
const SCOPE_CHARS_MAX: usize = 200;

/// Which executions of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of one workflow.
    Workflow(WorkflowId),
    /// Those of workflows with this tag.
    Tag(String),
    /// Those of workflows in this project.
    Project(String),
    /// All.
    Whole,
}

/// Executions of one source that belong to one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// The tenant they belong to.
    pub tenant: TenantId,
    /// Which executions.
    pub scope: Scope,
    /// Only those that stopped at this instant or later; missing for all.
    pub from: Option<Timestamp>,
}

/// What a workflow's tenant is derived from.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// The workflow.
    pub workflow: &'a WorkflowId,
    /// Names of its tags.
    pub tags: &'a [String],
    /// Its project; missing if the source has none.
    pub project: Option<&'a str>,
}

impl Scope {
    /// Narrower scopes win.
    fn breadth(&self) -> u8 {
        match self {
            Self::Workflow(_) => 0,
            Self::Tag(_) => 1,
            Self::Project(_) => 2,
            Self::Whole => 3,
        }
    }

    fn holds(&self, placement: Placement<'_>) -> bool {
        match self {
            Self::Workflow(id) => id == placement.workflow,
            Self::Tag(name) => placement.tags.contains(name),
            Self::Project(id) => placement.project == Some(id),
            Self::Whole => true,
        }
    }
}

impl Attribution {
    pub(crate) fn from_wire(wire: v1::Attribution) -> Result<Self, InvalidEntry> {
        let scope = match wire.scope {
            None => Scope::Whole,
            Some(v1::attribution::Scope::WorkflowId(id)) => Scope::Workflow(WorkflowId::parse(&id)?),
            Some(v1::attribution::Scope::Tag(name)) => Scope::Tag(checked_scope("attributions.tag", name)?),
            Some(v1::attribution::Scope::ProjectId(id)) => {
                Scope::Project(checked_scope("attributions.project", id)?)
            }
        };
        let from = instant(wire.from.as_ref(), "attributions.from");
        Ok(Self {
            tenant: TenantId::parse(&wire.tenant_id)?,
            scope,
            from: from.map_err(|error| InvalidEntry::field("attributions", error.to_string()))?,
        })
    }

    pub(crate) fn to_wire(&self) -> v1::Attribution {
        v1::Attribution {
            tenant_id: self.tenant.to_string(),
            scope: match &self.scope {
                Scope::Workflow(id) => Some(v1::attribution::Scope::WorkflowId(id.to_string())),
                Scope::Tag(name) => Some(v1::attribution::Scope::Tag(name.clone())),
                Scope::Project(id) => Some(v1::attribution::Scope::ProjectId(id.clone())),
                Scope::Whole => None,
            },
            from: self.from.map(timestamp),
        }
    }
}

impl Source {
    /// The tenant of an execution of this workflow that stopped at this instant; `None` if there is none. The
    /// narrowest scope wins, then the latest start, then the order of the list.
    pub fn tenant_of(&self, placement: Placement<'_>, stopped_at: Timestamp) -> Option<&TenantId> {
        let matching = self.attributions.iter().filter(|attribution| {
            attribution.from.is_none_or(|from| stopped_at >= from) && attribution.scope.holds(placement)
        });
        // `min_by_key` returns the first of equals.
        let narrowest = matching
            .min_by_key(|attribution| (attribution.scope.breadth(), std::cmp::Reverse(attribution.from)));
        narrowest.map(|attribution| &attribution.tenant).or(self.tenant.as_ref())
    }

    /// The instant from which executions of this workflow have a tenant: [`Timestamp::MIN`] if all have one,
    /// `None` if none has.
    pub fn attributed_since(&self, placement: Placement<'_>) -> Option<Timestamp> {
        if self.tenant.is_some() {
            return Some(Timestamp::MIN);
        }
        let matching = self.attributions.iter().filter(|attribution| attribution.scope.holds(placement));
        matching.map(|attribution| attribution.from.unwrap_or(Timestamp::MIN)).min()
    }

    /// Whether a tenant depends on tags or projects.
    pub fn depends_on_places(&self) -> bool {
        let is_place = |scope: &Scope| matches!(scope, Scope::Tag(_) | Scope::Project(_));
        self.attributions.iter().any(|attribution| is_place(&attribution.scope))
    }

    /// Every tenant that executions of this source may belong to, without repeats.
    pub fn tenants(&self) -> Vec<&TenantId> {
        let attributed = self.attributions.iter().map(|attribution| &attribution.tenant);
        let mut tenants: Vec<&TenantId> = self.tenant.iter().chain(attributed).collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants
    }
}

fn checked_scope(field: &'static str, text: String) -> Result<String, InvalidEntry> {
    let length = text.chars().count();
    if (1..=SCOPE_CHARS_MAX).contains(&length) && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(InvalidEntry::field(field, format!("use 1 to {SCOPE_CHARS_MAX} printable characters")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    fn attribution(tenant: &str, scope: Scope, from: Option<&str>) -> Attribution {
        let from = from.map(|text| text.parse().unwrap());
        Attribution { tenant: TenantId::parse(tenant).unwrap(), scope, from }
    }

    fn shared(tenant: Option<&str>, attributions: Vec<Attribution>) -> Source {
        let source = Source::from_wire(v1::Source {
            source_id: "shared".into(),
            tenant_id: "north".into(),
            kind: v1::SourceKind::N8n.into(),
            base_url: "https://n8n.example".into(),
            ..v1::Source::default()
        });
        let tenant = tenant.map(|tenant| TenantId::parse(tenant).unwrap());
        Source { tenant, attributions, ..source.unwrap() }
    }

    fn tenant(
        source: &Source,
        workflow: &str,
        tags: &[&str],
        project: Option<&str>,
        at: &str,
    ) -> Option<String> {
        let workflow = WorkflowId::parse(workflow).unwrap();
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let placement = Placement { workflow: &workflow, tags: &tags, project };
        source.tenant_of(placement, at.parse().unwrap()).map(ToString::to_string)
    }

    const NOON: &str = "2026-11-24T12:00:00Z";

    #[test]
    fn the_narrowest_scope_wins() {
        let source = shared(
            Some("whole"),
            vec![
                attribution("dated", Scope::Whole, Some("2026-11-01T00:00:00Z")),
                attribution("project", Scope::Project("p".into()), None),
                attribution("tag", Scope::Tag("t".into()), None),
                attribution("workflow", Scope::Workflow(WorkflowId::parse("w").unwrap()), None),
            ],
        );
        assert_eq!(tenant(&source, "w", &["t"], Some("p"), NOON).as_deref(), Some("workflow"));
        assert_eq!(tenant(&source, "x", &["a", "t"], Some("p"), NOON).as_deref(), Some("tag"));
        assert_eq!(tenant(&source, "x", &["a"], Some("p"), NOON).as_deref(), Some("project"));
        assert_eq!(tenant(&source, "x", &[], Some("q"), NOON).as_deref(), Some("dated"));
        assert_eq!(tenant(&source, "x", &[], None, "2026-10-31T23:59:59Z").as_deref(), Some("whole"));
    }

    #[test]
    fn the_latest_start_wins_and_includes_its_first_instant() {
        let tag = || Scope::Tag("t".into());
        let source = shared(
            None,
            vec![
                attribution("first", tag(), Some("2026-11-01T00:00:00Z")),
                attribution("second", tag(), Some("2026-11-24T12:00:00Z")),
                attribution("always", tag(), None),
            ],
        );
        assert_eq!(tenant(&source, "x", &["t"], None, NOON).as_deref(), Some("second"));
        assert_eq!(tenant(&source, "x", &["t"], None, "2026-11-24T11:59:59Z").as_deref(), Some("first"));
        assert_eq!(tenant(&source, "x", &["t"], None, "2026-10-01T00:00:00Z").as_deref(), Some("always"));
    }

    #[test]
    fn attributed_since_is_the_first_instant_with_a_tenant() {
        let tag = |name: &str| Scope::Tag(name.to_owned());
        let attributions = vec![
            attribution("first", tag("dated"), Some("2026-11-01T00:00:00Z")),
            attribution("second", tag("dated"), Some("2026-11-24T12:00:00Z")),
            attribution("third", tag("always"), Some("2026-11-24T12:00:00Z")),
            attribution("fourth", tag("always"), None),
        ];
        let workflow = WorkflowId::parse("x").unwrap();
        for (owner, tags, since) in [
            (None, vec!["dated".to_owned()], Some("2026-11-01T00:00:00Z".parse().unwrap())),
            (None, vec!["dated".to_owned(), "always".to_owned()], Some(Timestamp::MIN)),
            (None, vec!["none".to_owned()], None),
            (Some("north"), vec![], Some(Timestamp::MIN)),
        ] {
            let source = shared(owner, attributions.clone());
            let placement = Placement { workflow: &workflow, tags: &tags, project: None };
            assert_eq!(source.attributed_since(placement), since, "{tags:?}");
            for instant in ["2026-10-31T23:59:59Z", "2026-11-01T00:00:00Z", NOON] {
                let instant: Timestamp = instant.parse().unwrap();
                let has_tenant = source.tenant_of(placement, instant).is_some();
                assert_eq!(has_tenant, since.is_some_and(|since| since <= instant), "{tags:?} at {instant}");
            }
        }
    }

    #[test]
    fn an_execution_that_matches_nothing_has_no_tenant() {
        let source = shared(None, vec![attribution("north", Scope::Project("p".into()), None)]);
        assert_eq!(tenant(&source, "x", &["p"], None, NOON), None);
        assert_eq!(source.tenants().len(), 1);
    }

    #[test]
    fn the_wire_gives_the_same_attributions_back() {
        let from = Some("2026-11-01T00:00:00Z");
        let source = shared(
            None,
            vec![
                attribution("north", Scope::Whole, from),
                attribution("south", Scope::Project("p".into()), None),
                attribution("east", Scope::Tag("East side".into()), from),
                attribution("north", Scope::Workflow(WorkflowId::parse("w").unwrap()), None),
            ],
        );
        assert_eq!(Source::from_wire(source.to_wire(3)).unwrap(), source);
    }

    #[test]
    fn a_source_needs_a_tenant_and_its_attributions_are_bounded() {
        assert!(Source::from_wire(shared(None, Vec::new()).to_wire(1)).is_err());
        let many = vec![attribution("north", Scope::Whole, None); ATTRIBUTIONS_MAX + 1];
        assert!(Source::from_wire(shared(None, many).to_wire(1)).is_err());
        let nameless = attribution("north", Scope::Tag(String::new()), None);
        assert!(Source::from_wire(shared(None, vec![nameless]).to_wire(1)).is_err());
    }
}
