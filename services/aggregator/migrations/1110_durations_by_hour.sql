-- How long the executions of an hour took, as of a day. Hours from before have none: a rebuild gives them theirs.
ALTER TABLE usage_hours ADD COLUMN durations bytea NOT NULL DEFAULT '';
