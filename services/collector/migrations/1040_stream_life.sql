-- Sequences mean something within one life of a stream only: see src/stream_life.rs.
ALTER TABLE sources
    -- The life of the stream of the source's partition in which published_through was given out.
    ADD COLUMN stream_life        text,
    -- A message that this life holds, and when the broker took it (nanoseconds since 1970): a stream that was set back to an
    -- older state has another one, or none, at this sequence.
    ADD COLUMN anchor_sequence    bigint,
    ADD COLUMN anchor_taken_at_ns bigint;
