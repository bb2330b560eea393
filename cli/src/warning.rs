//! Problems that the gateway reports and a person should fix.

use serde::Deserialize;

/// Something that a person should fix.
#[derive(Debug, Deserialize)]
pub struct Warning {
    /// Which kind it is.
    pub code: String,
    detail: String,
    since: Option<String>,
}

impl Warning {
    /// The line below the table.
    pub fn sentence(&self, whose: &str) -> String {
        let since = self.since.as_ref().map_or_else(String::new, |since| format!(" (since {since})"));
        format!("{whose}: warning{since}: {}", self.detail)
    }
}

/// The kinds, for a column.
pub fn kinds(warnings: &[Warning]) -> String {
    warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>().join(", ")
}
