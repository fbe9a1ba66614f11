-- What holds a running job up in its phase, for people.

ALTER TABLE jobs ADD COLUMN phase_detail TEXT;
