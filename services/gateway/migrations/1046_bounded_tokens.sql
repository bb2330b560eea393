-- Living tokens are counted for each new one, those taken back are purged by age.
CREATE INDEX tokens_living ON tokens (created_at) WHERE revoked_at IS NULL;
CREATE INDEX tokens_revoked ON tokens (revoked_at) WHERE revoked_at IS NOT NULL;
-- The sessions of a token are bounded.
CREATE INDEX sessions_by_token ON sessions (token_hash, expires_at);
-- Gaps are purged by age; the other index has the source first.
CREATE INDEX gaps_by_age ON gaps (found_at);
