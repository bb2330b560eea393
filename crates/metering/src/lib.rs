//! The pure domain of metering: what an execution is, which period it belongs to, whether a plan counts it,
//! when a threshold is crossed, what usage costs. No I/O, no database, no wire format.

mod clock;
mod counting;
mod execution;
mod ids;
mod instant;
mod money;
mod period;
mod plausible;
mod text;
mod threshold;
mod timeline;
mod zone;

pub use clock::{Clock, SimulatedClock, SystemClock};
pub use counting::CountingRule;
pub use execution::{Execution, Mode, RUN_TIME_MAX, Status, run_time};
pub use ids::{ExecutionId, InvalidId, PlanId, SourceId, TenantId, WorkflowId};
pub use instant::{earlier, later};
pub use money::{Currency, InvalidCurrency, Money, Price, amount_text};
pub use period::{Calendar, InvalidCalendar, Period};
pub use plausible::{AHEAD_MAX, EARLIEST_SECOND, Implausible, check_instants, is_plausible};
pub use text::{NAME_CHARS_MAX, SafeText, is_unsafe};
pub use threshold::{InvalidPercent, Percent, crossed};
pub use timeline::{Stretch, Timeline};
pub use zone::{InvalidTimeZone, check_time_zone, time_zone_names};
