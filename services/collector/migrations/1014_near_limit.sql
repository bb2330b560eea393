-- Tenants near their limit: their sources are swept more often (src/limits.rs).
CREATE TABLE tenants_near_limit (
    tenant_id text PRIMARY KEY
);
