//! What works only in part because of the configuration. It makes nothing unready: `/readyz` and the log mention it.

use std::sync::{Arc, Mutex, PoisonError};

/// The warnings of a process; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Logs a warning, and adds it to `/readyz` for the rest of the process's life. The text is one line: what does not work,
    /// and what to change.
    pub fn add(&self, warning: impl Into<String>) {
        let warning = warning.into();
        tracing::warn!("{warning}");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }

    /// The lines of `/readyz`, in the order in which they came.
    pub(crate) fn lines(&self) -> String {
        let warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.iter().map(|warning| format!("warning: {warning}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_a_line() {
        let warnings = Warnings::default();
        assert_eq!(warnings.lines(), "");
        warnings.clone().add("no mail server");
        warnings.add("no disk");
        assert_eq!(warnings.lines(), "warning: no mail server\nwarning: no disk\n");
    }
}
