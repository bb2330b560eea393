-- Which executions were open when the source was complete, in which epoch: what is counted of them since does not stand a second time
-- among the open ones. Missing where the collector does not say it, or they are too many.
ALTER TABLE sources
    ADD COLUMN open_ids           bigint[],
    ADD COLUMN open_epoch         integer,
    ADD COLUMN counted_open_ids   bigint[],
    ADD COLUMN counted_open_epoch integer;
