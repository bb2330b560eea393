//! Rows in the binary format of `COPY`.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::{Timestamp, civil::Date};

/// Signature, flags and length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Postgres counts from 2000-01-01; in microseconds since 1970.
const EPOCH_MICROSECOND: i64 = 946_684_800_000_000;

/// 2000-01-01.
const EPOCH_DATE: Date = jiff::civil::date(2000, 1, 1);

/// A row of executions, with the lengths of its fields.
const ROW_BYTES: usize = 136;

/// Rows that are being written.
pub(crate) struct CopyBuffer(BytesMut);

impl CopyBuffer {
    /// With room for so many rows.
    pub(crate) fn for_rows(rows: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEADER.len() + rows * ROW_BYTES);
        buffer.put_slice(HEADER);
        Self(buffer)
    }

    pub(crate) fn begin_row(&mut self, fields: i16) {
        self.0.put_i16(fields);
    }

    fn missing(&mut self) {
        self.0.put_i32(-1);
    }

    pub(crate) fn bigint(&mut self, value: i64) {
        self.0.put_i32(8);
        self.0.put_i64(value);
    }

    pub(crate) fn integer(&mut self, value: Option<i32>) {
        let Some(value) = value else { return self.missing() };
        self.0.put_i32(4);
        self.0.put_i32(value);
    }

    pub(crate) fn smallint(&mut self, value: i16) {
        self.0.put_i32(2);
        self.0.put_i16(value);
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.0.put_i32(1);
        self.0.put_u8(u8::from(value));
    }

    pub(crate) fn instant(&mut self, value: Option<Timestamp>) {
        let Some(value) = value else { return self.missing() };
        self.bigint(value.as_microsecond().saturating_sub(EPOCH_MICROSECOND));
    }

    pub(crate) fn date(&mut self, value: Date) {
        self.integer(Some(EPOCH_DATE.until(value).map_or(0, |span| span.get_days())));
    }

    /// The rows with the trailer.
    pub(crate) fn finish(mut self) -> Bytes {
        self.0.put_i16(-1);
        self.0.freeze()
    }
}
