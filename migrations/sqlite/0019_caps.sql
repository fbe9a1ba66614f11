-- What a client may spend in a day and in a month, in billionths of a US dollar; null is no limit.

ALTER TABLE clients ADD COLUMN cap_daily_nanos INTEGER CHECK (cap_daily_nanos >= 0);
ALTER TABLE clients ADD COLUMN cap_monthly_nanos INTEGER CHECK (cap_monthly_nanos >= 0);
