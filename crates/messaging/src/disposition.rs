//! What happens to a message whose handling failed.

/// The answer to "what now?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing is lost by dropping it: acknowledge.
    Ignore,
    /// A dependency is unavailable (database, broker): deliver again, for as long as it takes.
    Wait,
    /// May succeed soon: deliver again, and write a dead letter when patience runs out ([`crate::PATIENCE`]).
    Retry,
    /// Will never succeed: write a dead letter now.
    DeadLetter,
}

/// An error that knows its disposition.
pub trait Dispose: std::error::Error + Send + Sync + 'static {
    /// One exhaustive match over the error.
    fn disposition(&self) -> Disposition;
}

impl Dispose for sqlx::Error {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Database(error) => match error.code().as_deref().and_then(|code| code.get(..2)) {
                // Data exception, integrity violation: this message, not the database.
                Some("22" | "23") => Disposition::DeadLetter,
                _ => Disposition::Wait,
            },
            Self::Decode(_) | Self::Encode(_) | Self::ColumnDecode { .. } => Disposition::DeadLetter,
            _ => Disposition::Wait,
        }
    }
}
