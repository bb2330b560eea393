-- Whether the source's own list has shown the execution. What only a push has said gives way to the poll's word, whatever it
-- says (ADR 0014). What was recorded before this column counts as confirmed: nobody knows how it came. A replica of the version
-- before writes `false`, so that what it records is still corrected.
ALTER TABLE executions ADD COLUMN confirmed boolean NOT NULL DEFAULT true;
ALTER TABLE executions ALTER COLUMN confirmed SET DEFAULT false;
-- The ones that may still change, as `executions_crashed`.
CREATE INDEX executions_unconfirmed ON executions (source_number, epoch, execution_id) WHERE NOT confirmed;

-- Pushed executions of this UTC day that the poll has shown to be something else: from a number on the operator is informed.
ALTER TABLE sources ADD COLUMN contradicted_on date, ADD COLUMN contradicted bigint NOT NULL DEFAULT 0;
