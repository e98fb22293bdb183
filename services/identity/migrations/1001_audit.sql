-- Since when the use of a key was told last, and from where it was used since. The outbox says nothing about these columns.
ALTER TABLE api_keys ADD COLUMN told_time timestamptz;
ALTER TABLE api_keys ADD COLUMN use_addresses text[] NOT NULL DEFAULT '{}';
