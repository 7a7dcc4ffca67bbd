-- Expand: code that knows nothing of the column still reads and writes items.
ALTER TABLE items ADD COLUMN discount_percent INTEGER NOT NULL DEFAULT 0;
