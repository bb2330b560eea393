-- What a period was compared with while it was the current one. A period that has ended and is not closed is still compared
-- with these: a plan that is changed on the first of the month is not one of the month before. Nothing where none is known.
ALTER TABLE periods
    ADD COLUMN terms_plan       text,
    ADD COLUMN terms_limit      bigint,
    ADD COLUMN terms_thresholds integer[];
