//! The pure domain of metering: what an execution is, which period it belongs to, whether a plan counts it,
//! when a threshold is crossed, what usage costs. No I/O, no database, no wire format.

mod clock;
mod counting;
mod execution;
mod ids;
mod money;
mod period;
mod threshold;
mod timeline;

pub use clock::{Clock, SimulatedClock, SystemClock};
pub use counting::CountingRule;
pub use execution::{Execution, Mode, Status, run_time};
pub use ids::{ExecutionId, InvalidId, PlanId, SourceId, TenantId, WorkflowId};
pub use money::{Currency, InvalidCurrency, Money, Price};
pub use period::{Calendar, InvalidCalendar, Period};
pub use threshold::{InvalidPercent, Percent, crossed};
pub use timeline::{Stretch, Timeline};
