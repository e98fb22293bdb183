-- How long the log keeps a tenant's events stands in the directory, as the tenant's plan has it.
ALTER TABLE platform.directory ADD COLUMN log_retention text NOT NULL DEFAULT 'standard'
  CONSTRAINT directory_log_retention CHECK (log_retention IN ('standard', 'extended', 'permanent'));

CREATE OR REPLACE VIEW rapport.directory AS
  SELECT '00000000-0000-8000-8000-6f7065726174'::uuid AS tenant_id, id, version, slug, display_name, state, generation,
    cell, region, locale, time_zone, phone_region, base_currency, create_time, update_time, delete_time, log_retention
  FROM platform.directory
  WHERE (SELECT current_setting('rapport.tenant')::uuid) = '00000000-0000-8000-8000-6f7065726174';

CREATE OR REPLACE FUNCTION rapport.follow_directory() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO platform.tenants (id, state, generation, cell, region, retention)
  VALUES (new.id, new.state, new.generation, new.cell, new.region, new.log_retention)
  ON CONFLICT (id) DO UPDATE SET state = excluded.state, generation = excluded.generation, cell = excluded.cell,
    region = excluded.region, retention = excluded.retention;
  RETURN NULL;
END $$;
