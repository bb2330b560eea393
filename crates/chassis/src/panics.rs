//! A panic in the handler of a request costs that request, and no other.

use std::{any::Any, panic::AssertUnwindSafe};

use futures_util::FutureExt;

/// The answer of a handler, or `None` if it panicked, which is logged: the caller of the request then gets a 500 instead of a
/// connection that ends without a word.
///
/// The states that requests share must be behind locks that forget a panic of their holder.
pub async fn catch_panic<T>(answer: impl Future<Output = T>) -> Option<T> {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(answer) => Some(answer),
        Err(panic) => {
            tracing::error!(panic = reason_of(&*panic), "a request handler panicked, answered 500");
            None
        }
    }
}

/// What was passed to `panic!`.
fn reason_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_no_answer_and_others_are_passed_on() {
        assert_eq!(catch_panic(async { 7 }).await, Some(7));
        let plain: Option<()> = catch_panic(async { panic!("no such state") }).await;
        assert_eq!(plain, None);
        let formatted: Option<()> = catch_panic(async { panic!("no state {}", 7) }).await;
        assert_eq!(formatted, None);
    }
}
