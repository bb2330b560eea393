-- A sum of run times that no longer fits stays at the largest number. An error would make a dead letter of every later
-- message of the tenant.
CREATE FUNCTION saturated(total numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(least(total, 9223372036854775807), -9223372036854775808)::bigint;
