ALTER TABLE items DROP COLUMN discount_percent;
