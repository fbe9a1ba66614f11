-- What the attempts before the present one cost, in US dollars.

ALTER TABLE jobs ADD COLUMN earlier_cost_usd REAL;
