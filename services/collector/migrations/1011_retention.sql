-- A source that pushes is swept less often: see src/pace.rs.
ALTER TABLE sources
    -- Written at most once a minute.
    ADD COLUMN last_pushed_at    timestamptz,
    -- How far pushes may put off the next sweep; missing where they may not.
    ADD COLUMN postponable_until timestamptz;
