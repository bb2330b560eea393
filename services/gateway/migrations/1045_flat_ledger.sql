-- Runs tallied from a slot on: for the tenant (no workflow), and for each workflow whose part a plan caps. Without them each
-- decision adds up all slots of the period, under the tenant's lock. A row is made by the first decision that needs it, and
-- is kept true by whoever changes a tally; all of them hold the tenant's ledger.
CREATE TABLE tally_sums (
    tenant     text   NOT NULL,
    workflow   text   NOT NULL DEFAULT '',
    -- `period`: since the period began. `since`: since what is not complete yet.
    span       text   NOT NULL CHECK (span IN ('period', 'since')),
    since_slot bigint NOT NULL,
    units      bigint NOT NULL,
    PRIMARY KEY (tenant, workflow, span)
) WITH (fillfactor = 50);
CREATE INDEX tally_sums_by_since ON tally_sums (tenant, since_slot);

CREATE FUNCTION sum_tally() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tally_sums SET units = units + NEW.units - coalesce(OLD.units, 0)
    WHERE tenant = NEW.tenant AND workflow = '' AND since_slot <= NEW.slot;
    RETURN NULL;
END $$;
CREATE TRIGGER tally_added AFTER INSERT ON tallies FOR EACH ROW EXECUTE FUNCTION sum_tally();
-- A replica writes its own slots whole, again and again: most of them have not changed.
CREATE TRIGGER tally_changed AFTER UPDATE ON tallies FOR EACH ROW
    WHEN (OLD.units <> NEW.units) EXECUTE FUNCTION sum_tally();

CREATE FUNCTION sum_workflow_tally() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tally_sums SET units = units + NEW.units - coalesce(OLD.units, 0)
    WHERE tenant = NEW.tenant AND workflow = NEW.workflow AND since_slot <= NEW.slot;
    RETURN NULL;
END $$;
CREATE TRIGGER workflow_tally_added AFTER INSERT ON workflow_tallies FOR EACH ROW EXECUTE FUNCTION sum_workflow_tally();
CREATE TRIGGER workflow_tally_changed AFTER UPDATE ON workflow_tallies FOR EACH ROW
    WHEN (OLD.units <> NEW.units) EXECUTE FUNCTION sum_workflow_tally();

-- For the purge: what is old, without reading what is not. The key of `workflow_tallies` has the workflow before the slot.
CREATE INDEX workflow_tallies_by_slot ON workflow_tallies (tenant, slot);
CREATE INDEX caps_by_arrival ON caps (tenant, arrival_ns);
CREATE INDEX workflows_by_minute ON workflows (tenant, minute);
ALTER TABLE caps SET (fillfactor = 50);
ALTER TABLE workflows SET (fillfactor = 50);

-- Since when the purge finds no tenant for a ledger; its rows go when no verdict of it can be left.
ALTER TABLE ledgers ADD COLUMN gone_since timestamptz;
