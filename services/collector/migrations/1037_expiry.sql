-- Found by age: see src/expiry.rs.
CREATE INDEX workflows_by_age ON workflows (read_at);
CREATE INDEX unreadable_rows_by_age ON unreadable_rows (found_at);
