-- A sequence means something within one life of its stream only: see src/progress.rs. Empty from a collector that does not
-- say it.
ALTER TABLE sources ADD COLUMN published_life text NOT NULL DEFAULT '';
