//! Rows in the binary format of `COPY`: the cheapest way into a table for many rows that are known to be new.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::{Timestamp, civil::Date};

/// Signature, flags and length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Size of a part of a copy that is sent in parts; fits into a processor's cache.
const PART_BYTES: usize = 256 * 1024;

/// 2000-01-01, from which Postgres counts, in microseconds since 1970.
const EPOCH_MICROSECOND: i64 = 946_684_800_000_000;

/// 2000-01-01.
const EPOCH_DATE: Date = jiff::civil::date(2000, 1, 1);

/// Rows that are being written. Each field has the type of its column: Postgres does not convert.
pub struct CopyBuffer(BytesMut);

impl CopyBuffer {
    /// With room for `rows` rows of about `row_bytes` bytes, including the lengths of their fields (four
    /// bytes each), or for one part of them.
    pub fn for_rows(rows: usize, row_bytes: usize) -> Self {
        let bytes = rows.saturating_mul(row_bytes).min(PART_BYTES + PART_BYTES / 8);
        let mut buffer = BytesMut::with_capacity(HEADER.len() + bytes);
        buffer.put_slice(HEADER);
        Self(buffer)
    }

    /// Begins a row. Its fields follow, in the order of the statement's columns.
    pub fn begin_row(&mut self, fields: i16) {
        self.0.put_i16(fields);
    }

    fn missing(&mut self) {
        self.0.put_i32(-1);
    }

    /// `bigint`.
    pub fn bigint(&mut self, value: Option<i64>) {
        let Some(value) = value else { return self.missing() };
        self.0.put_i32(8);
        self.0.put_i64(value);
    }

    /// `integer`.
    pub fn integer(&mut self, value: Option<i32>) {
        let Some(value) = value else { return self.missing() };
        self.0.put_i32(4);
        self.0.put_i32(value);
    }

    /// `smallint`.
    pub fn smallint(&mut self, value: i16) {
        self.0.put_i32(2);
        self.0.put_i16(value);
    }

    /// `boolean`.
    pub fn boolean(&mut self, value: bool) {
        self.0.put_i32(1);
        self.0.put_u8(u8::from(value));
    }

    /// `uuid`.
    pub fn uuid(&mut self, value: [u8; 16]) {
        self.0.put_i32(16);
        self.0.put_slice(&value);
    }

    /// `text`; NULL if it is too long for the format.
    pub fn text(&mut self, value: Option<&str>) {
        let length = value.and_then(|value| i32::try_from(value.len()).ok());
        let (Some(value), Some(length)) = (value, length) else { return self.missing() };
        self.0.put_i32(length);
        self.0.put_slice(value.as_bytes());
    }

    /// `timestamptz`, in whole microseconds.
    pub fn instant(&mut self, value: Option<Timestamp>) {
        self.bigint(value.map(|value| value.as_microsecond().saturating_sub(EPOCH_MICROSECOND)));
    }

    /// `date`.
    pub fn date(&mut self, value: Date) {
        self.integer(Some(EPOCH_DATE.until(value).map_or(0, |span| span.get_days())));
    }

    /// Takes the bytes written so far once there are enough to send: a large copy is sent in parts, and
    /// Postgres works on one part while the next is written.
    pub fn take_part(&mut self) -> Option<Bytes> {
        (self.0.len() >= PART_BYTES).then(|| {
            let part = self.0.split().freeze();
            self.0.reserve(PART_BYTES + PART_BYTES / 8);
            part
        })
    }

    /// The rows with the trailer.
    pub fn finish(mut self) -> Bytes {
        self.0.put_i16(-1);
        self.0.freeze()
    }
}
