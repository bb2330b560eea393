-- Whether a tenant may read why its figures were corrected. Reasons that are there already were written for the operator.
ALTER TABLE corrections ADD COLUMN reason_is_public boolean NOT NULL DEFAULT false;
