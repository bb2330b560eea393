//! Tenants, plans and sources: what they are, how they travel, and the copy that each service keeps.
//!
//! The gateway owns the originals and publishes every change with a growing revision. Every other service
//! keeps a [`store`] in its own schema, fed by a [`Mirror`], and so never asks another service.

mod address;
mod admission_rule;
mod archive;
mod attribution;
mod entry;
pub mod locale;
mod mail_address;
mod mirror;
mod plan;
pub mod sealing;
mod source;
pub mod store;
mod tenant;

pub use address::{InstancePlace, is_same_instance, of_editor_page};
pub use admission_rule::{AdmissionRule, LoopRule, RunCaps};
pub use archive::{ArchivedTenant, PLAN_UNKNOWN};
pub use attribution::{Attribution, Placement, Scope};
pub use entry::{Entry, InvalidEntry};
pub use mail_address::{InvalidMailAddress, MailAddress};
pub use mirror::{Change, Mirror, MirrorError, OnChange, stored};
pub use plan::{LimitKind, OutageRule, Plan};
pub use proto::subjects::CatalogKind;
pub use source::Source;
pub use tenant::{Language, Tenant};

/// The tables that this crate needs in a service's schema.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
