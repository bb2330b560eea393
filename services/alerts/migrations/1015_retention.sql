-- What was told goes some time after it was: see src/retention.rs.
CREATE INDEX crossings_by_age ON crossings (recorded_at);
CREATE INDEX notices_by_age ON notices (sealed_at) WHERE sealed_at IS NOT NULL;
CREATE INDEX sweeps_by_age ON sweeps (ended_at);
