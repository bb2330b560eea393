//! The way through a list, page by page.

use metering::is_unsafe;

use crate::n8n::client::N8nError;

/// Longest cursor that is passed on, in bytes. n8n's are about 60; one is kept in the database during a first
/// contact.
const CURSOR_BYTES_MAX: usize = 4 * 1024;

/// The cursors of one list, and whether they advance. A source (or a cache in front of it) that gives the
/// same cursor again would be read until the bound on pages, or for as long as a sweep may last.
#[derive(Debug, Default)]
pub struct Pages {
    cursor: Option<String>,
    /// An earlier cursor, replaced at each power of two: a cycle of any length is noticed within two rounds
    /// of it, and no more than this one is kept.
    landmark: Option<String>,
    pages: u32,
}

impl Pages {
    /// Continues at this cursor; an empty one is the first page.
    pub fn from(cursor: String) -> Self {
        Self { cursor: Some(cursor).filter(|cursor| !cursor.is_empty()), ..Self::default() }
    }

    /// The cursor of the page to read; `None` for the first.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Advances past a page that was read, to the next one it names. Returns whether there is one.
    pub fn advance(&mut self, next: Option<String>) -> Result<bool, N8nError> {
        let next = next.filter(|next| !next.is_empty());
        if next.is_some() && (next == self.cursor || next == self.landmark) {
            return Err(N8nError::StuckCursor);
        }
        if next.as_ref().is_some_and(|next| next.len() > CURSOR_BYTES_MAX || next.chars().any(is_unsafe)) {
            return Err(N8nError::BadCursor);
        }
        self.pages = self.pages.saturating_add(1);
        if self.pages.is_power_of_two() {
            self.landmark.clone_from(&next);
        }
        self.cursor = next;
        Ok(self.cursor.is_some())
    }

    /// The cursor where the list continues.
    pub fn into_next(self) -> Option<String> {
        self.cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages of a list whose cursors come in this order are read.
    fn read<'a>(cursors: impl IntoIterator<Item = &'a str>) -> Result<u32, N8nError> {
        let mut pages = Pages::default();
        for cursor in cursors {
            if !pages.advance(Some(cursor.to_owned()))? {
                return Ok(pages.pages);
            }
        }
        pages.advance(None)?;
        Ok(pages.pages)
    }

    #[test]
    fn a_list_ends_when_no_cursor_or_an_empty_one_is_given() {
        assert_eq!(read([]).unwrap(), 1);
        assert_eq!(read(["a", "b", "c", "d", "e"]).unwrap(), 6);
        assert_eq!(read(["a", "", "b"]).unwrap(), 2);
    }

    #[test]
    fn a_cursor_that_cannot_be_stored_is_refused() {
        for bad in ["a\0b".to_owned(), "x".repeat(CURSOR_BYTES_MAX + 1)] {
            assert!(matches!(read([bad.as_str()]), Err(N8nError::BadCursor)));
        }
    }

    #[test]
    fn a_cursor_that_is_given_again_is_an_error() {
        for cycle in [&["again"][..], &["a", "b"], &["a", "b", "c", "d", "e", "f", "g"]] {
            let outcome = read(["start"].into_iter().chain(cycle.iter().copied().cycle().take(100)));
            assert!(matches!(outcome, Err(N8nError::StuckCursor)), "{cycle:?}");
        }
    }
}
