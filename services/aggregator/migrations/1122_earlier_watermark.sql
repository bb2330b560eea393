-- The watermark before the last one, with what was running then. A run that spans a watermark is listed as running there, and its
-- reservation is younger: it stands twice. It cannot span both, so what is used is the smaller one of two bounds.
ALTER TABLE sources
    ADD COLUMN earlier_until      timestamptz,
    ADD COLUMN earlier_open_ids   bigint[],
    ADD COLUMN earlier_open_epoch integer;
