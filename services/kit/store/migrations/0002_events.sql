-- What the log and the reactions to other services' events need of every service's database.

-- The outbox, as the sequencer reads it: visible rows with ids above the highest that it saw, and in the gaps below it. A gap
-- belongs to a transaction that is still under way or was rolled back. The sequencer tells which by PostgreSQL's own snapshots,
-- so a transaction has its id before it takes numbers here.
CREATE OR REPLACE FUNCTION rapport.emit(
  p_fields_version bigint, p_event_ids uuid[], p_parts smallint[], p_resources text[], p_records uuid[],
  p_versions bigint[], p_subjects text[], p_types text[], p_paths text[], p_payloads bytea[],
  p_principal text, p_on_behalf_of uuid, p_via text, p_cause uuid, p_trace text, p_time timestamptz
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  tenant constant uuid := current_setting('rapport.tenant')::uuid;
  known record;
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended(tenant::text, 1));
  SELECT state, fields_version, pg_current_xact_id() INTO known FROM platform.tenants WHERE id = tenant;
  IF known.state IS DISTINCT FROM 'active' THEN
    RAISE EXCEPTION 'tenant may not be written' USING ERRCODE = 'RP004', DETAIL = known.state;
  ELSIF known.fields_version <> p_fields_version THEN
    RAISE EXCEPTION 'custom fields changed' USING ERRCODE = 'RP007';
  END IF;
  INSERT INTO platform.outbox (event_id, tenant_id, part, resource, record_id, version, subject, type, changed_paths,
    payload, principal, on_behalf_of, via, cause, trace, time)
  SELECT e.event_id, tenant, e.part, e.resource, e.record_id, e.version, e.subject, e.type, e.paths::text[], e.payload,
    p_principal, p_on_behalf_of, p_via, p_cause, p_trace, p_time
  FROM unnest(p_event_ids, p_parts, p_resources, p_records, p_versions, p_subjects, p_types, p_paths, p_payloads)
    WITH ORDINALITY AS e (event_id, part, resource, record_id, version, subject, type, paths, payload, n)
  ORDER BY e.n;
END $$;

-- Enters a tenant for the effects of an event, in the middle of a transaction that goes from tenant to tenant; says the version
-- of the tenant's custom fields. An event says that its tenant exists; and what happened has happened, whatever state the tenant
-- is in by now. A token with a generation of the tenant's state is heard of later.
CREATE FUNCTION rapport.react(p_tenant uuid, p_all text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  version bigint;
BEGIN
  SELECT fields_version INTO version FROM platform.tenants WHERE id = p_tenant;
  IF NOT FOUND THEN
    INSERT INTO platform.tenants (id, state, generation) VALUES (p_tenant, 'active', 0) ON CONFLICT (id) DO NOTHING;
    version := 0;
  END IF;
  PERFORM set_config('rapport.tenant', p_tenant::text, true), set_config('rapport.user', '', true),
    set_config('rapport.all', p_all, true);
  RETURN version;
END $$;
ALTER FUNCTION rapport.react OWNER TO rapport_platform;
REVOKE ALL ON FUNCTION rapport.react FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.react TO rapport_service;

-- Users and units of the tenant, as identity last said: what record scope follows.
CREATE TABLE directory_users (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  deleted boolean NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  unit_id uuid,
  state text NOT NULL,
  CONSTRAINT directory_users_id PRIMARY KEY (tenant_id, id)
);
CREATE TABLE directory_units (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  deleted boolean NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  parent_id uuid,
  CONSTRAINT directory_units_id PRIMARY KEY (tenant_id, id)
);
CREATE INDEX directory_units_parent ON directory_units (tenant_id, parent_id);

-- Which units stand below which one, itself included.
CREATE TABLE directory_units_below (
  tenant_id uuid NOT NULL,
  above_id uuid NOT NULL,
  unit_id uuid NOT NULL,
  CONSTRAINT directory_units_below_key PRIMARY KEY (tenant_id, above_id, unit_id)
);
CREATE INDEX directory_units_below_unit ON directory_units_below (tenant_id, unit_id);
SELECT rapport.protect('directory_users');
SELECT rapport.protect('directory_units');
SELECT rapport.protect('directory_units_below');

-- Finds these units' places in the tree anew, and those of the units below them. One at a time in a tenant, since what one
-- moves another one's place may depend on.
CREATE FUNCTION rapport.place_units(p_units uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  tenant constant uuid := current_setting('rapport.tenant')::uuid;
  moved uuid[];
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(tenant::text, 3));
  WITH RECURSIVE below AS (
    SELECT unnest(p_units) AS id
    UNION
    SELECT u.id FROM directory_units u JOIN below b ON u.parent_id = b.id WHERE u.tenant_id = tenant
  ) SELECT array_agg(id) INTO moved FROM below;
  DELETE FROM directory_units_below WHERE tenant_id = tenant AND unit_id = ANY(moved);
  -- UNION ends even where events on their way make units stand below each other for a moment.
  INSERT INTO directory_units_below (tenant_id, above_id, unit_id)
  WITH RECURSIVE above AS (
    SELECT u.id AS unit_id, u.id AS above_id, u.parent_id FROM directory_units u
    WHERE u.tenant_id = tenant AND u.id = ANY(moved) AND NOT u.deleted
    UNION
    SELECT a.unit_id, u.id, u.parent_id FROM above a JOIN directory_units u ON u.tenant_id = tenant AND u.id = a.parent_id
    WHERE NOT u.deleted
  ) SELECT DISTINCT tenant, above_id, unit_id FROM above;
END $$;
REVOKE ALL ON FUNCTION rapport.place_units FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.place_units TO rapport_service;

-- As before, and for tables whose rows belong to units: a row is also seen when `rapport.all` names the resource with `@unit`
-- (the caller's role reads those of a unit) and its unit is the caller's or stands below that. Called again, it replaces
-- what it made before.
DROP FUNCTION rapport.protect;
CREATE FUNCTION rapport.protect(tab regclass, resource text DEFAULT NULL, owner text DEFAULT NULL, unit text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tenant constant text := 'tenant_id = (SELECT current_setting(''rapport.tenant'')::uuid)';
  caller constant text := '(SELECT nullif(current_setting(''rapport.user''), '''')::uuid)';
  seen text := tenant;
  id name;
BEGIN
  IF owner IS NOT NULL THEN
    seen := format('(SELECT strpos(current_setting(''rapport.all''), %L) > 0) OR %I = %s'
      ' OR id IN (SELECT record_id FROM public.record_shares s WHERE s.%s AND s.resource = %L AND s.principal = %s)',
      ',' || resource || ',', owner, caller, tenant, resource, caller);
    IF unit IS NOT NULL THEN
      seen := format('%s OR ((SELECT strpos(current_setting(''rapport.all''), %L) > 0) AND %I IN (SELECT b.unit_id'
        ' FROM public.directory_units_below b JOIN public.directory_users u ON u.tenant_id = b.tenant_id AND u.unit_id = b.above_id'
        ' WHERE b.%s AND u.id = %s))',
        seen, ',' || resource || '@unit,', unit, tenant, caller);
    END IF;
    seen := format('%s AND (%s)', tenant, seen);
  END IF;
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tab);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tab);
  EXECUTE format('DROP POLICY IF EXISTS tenant ON %s', tab);
  EXECUTE format('DROP POLICY IF EXISTS search ON %s', tab);
  EXECUTE format('CREATE POLICY tenant ON %s USING (%s) WITH CHECK (%s)', tab, seen, tenant);
  EXECUTE format('CREATE POLICY search ON %s FOR SELECT TO rapport_search USING (true)', tab);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO rapport_service', tab);
  EXECUTE format('GRANT SELECT ON %s TO rapport_search', tab);
  -- Joins are within a tenant, so that an id has as many others to be told from as a tenant of some size has records, not as
  -- all have together: who reckons with those expects next to nothing of every join, and sorts all that there is of it
  -- instead of walking an index until the page is full.
  FOR id IN
    SELECT attname FROM pg_attribute WHERE attrelid = tab AND attname IN ('id', 'record_id') AND atttypid = 'uuid'::regtype
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET (n_distinct = 10000)', tab, id);
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION rapport.protect FROM PUBLIC;
