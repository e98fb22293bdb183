-- What every service's database has: the tenant's settings, the policies, and the tables that span tenants.

-- `rapport` holds the list of migrations, hence is there already; the kit's functions join it.
CREATE SCHEMA IF NOT EXISTS rapport;
CREATE SCHEMA platform;
GRANT USAGE ON SCHEMA rapport TO rapport_service;
GRANT USAGE, CREATE ON SCHEMA rapport, platform TO rapport_platform;
GRANT USAGE, CREATE ON SCHEMA rapport TO rapport_search;
GRANT USAGE ON SCHEMA public TO rapport_service, rapport_search;

-- Puts a table under the tenant's policies; every tenant table gets the same ones from here.
--
-- USING carries tenant and record scope: rows of a scoped table are seen when the transaction's `rapport.all` names the
-- resource (the caller's role reads all of them), or the caller owns the row, or it was shared with the caller. The store
-- writes the same scope into its statements, in a form that an index serves; this policy is the net behind it.
-- WITH CHECK carries only the tenant: else a record could not be handed over.
CREATE FUNCTION rapport.protect(tab regclass, resource text DEFAULT NULL, owner text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tenant constant text := 'tenant_id = (SELECT current_setting(''rapport.tenant'')::uuid)';
  seen text := tenant;
  id name;
BEGIN
  IF owner IS NOT NULL THEN
    seen := format(
      '%s AND ((SELECT strpos(current_setting(''rapport.all''), %L) > 0)'
      ' OR %I = (SELECT nullif(current_setting(''rapport.user''), '''')::uuid)'
      ' OR id IN (SELECT record_id FROM public.record_shares s'
      ' WHERE s.tenant_id = (SELECT current_setting(''rapport.tenant'')::uuid) AND s.resource = %L'
      ' AND s.principal = (SELECT nullif(current_setting(''rapport.user''), '''')::uuid)))',
      tenant, ',' || resource || ',', owner, resource);
  END IF;
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tab);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tab);
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

-- Rights on one record, given to one principal beyond what roles give.
CREATE TABLE record_shares (
  tenant_id uuid NOT NULL,
  resource text NOT NULL,
  record_id uuid NOT NULL,
  principal uuid NOT NULL,
  level text NOT NULL CONSTRAINT record_shares_level CHECK (level IN ('read', 'write')),
  create_time timestamptz NOT NULL,
  CONSTRAINT record_shares_key PRIMARY KEY (tenant_id, resource, record_id, principal)
);
CREATE INDEX record_shares_principal ON record_shares (tenant_id, principal, resource, record_id) INCLUDE (level);
SELECT rapport.protect('record_shares');

-- Keys of records in other systems.
CREATE TABLE external_ids (
  tenant_id uuid NOT NULL,
  resource text NOT NULL,
  source text NOT NULL,
  external_id text NOT NULL,
  record_id uuid NOT NULL,
  CONSTRAINT external_ids_key PRIMARY KEY (tenant_id, resource, source, external_id)
);
-- The record stands first: were the resource, the planner would take this index for look-ups by key while it knows no better.
CREATE INDEX external_ids_record ON external_ids (tenant_id, record_id, resource);
SELECT rapport.protect('external_ids');

-- Custom fields: their definitions, the typed side tables of the indexed ones, and the keys of the unique ones.
CREATE TABLE custom_fields (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  resource text NOT NULL,
  key text NOT NULL,
  kind text NOT NULL,
  labels jsonb NOT NULL,
  help jsonb NOT NULL,
  scale smallint NOT NULL,
  required boolean NOT NULL,
  is_unique boolean NOT NULL,
  indexed boolean NOT NULL,
  default_value jsonb,
  choices jsonb NOT NULL,
  reference_kind text NOT NULL,
  personal boolean NOT NULL,
  state text NOT NULL CONSTRAINT custom_fields_state CHECK (state IN ('active', 'indexing', 'archived')),
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  CONSTRAINT custom_fields_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT custom_fields_key UNIQUE (tenant_id, resource, key)
);
CREATE INDEX custom_fields_order ON custom_fields (tenant_id, key, id);
SELECT rapport.protect('custom_fields');

CREATE TABLE attribute_texts (
  tenant_id uuid NOT NULL,
  field_id uuid NOT NULL,
  record_id uuid NOT NULL,
  position smallint NOT NULL DEFAULT 0,
  present boolean NOT NULL,
  value text COLLATE "zh-x-icu" NOT NULL,
  CONSTRAINT attribute_texts_key PRIMARY KEY (tenant_id, field_id, record_id, position)
);
CREATE INDEX attribute_texts_value ON attribute_texts (tenant_id, field_id, present, value, record_id);
SELECT rapport.protect('attribute_texts');

CREATE TABLE attribute_numbers (
  tenant_id uuid NOT NULL,
  field_id uuid NOT NULL,
  record_id uuid NOT NULL,
  present boolean NOT NULL,
  value bigint NOT NULL,
  CONSTRAINT attribute_numbers_key PRIMARY KEY (tenant_id, field_id, record_id)
);
CREATE INDEX attribute_numbers_value ON attribute_numbers (tenant_id, field_id, present, value, record_id);
SELECT rapport.protect('attribute_numbers');

CREATE TABLE attribute_dates (
  tenant_id uuid NOT NULL,
  field_id uuid NOT NULL,
  record_id uuid NOT NULL,
  present boolean NOT NULL,
  value date NOT NULL,
  CONSTRAINT attribute_dates_key PRIMARY KEY (tenant_id, field_id, record_id)
);
CREATE INDEX attribute_dates_value ON attribute_dates (tenant_id, field_id, present, value, record_id);
SELECT rapport.protect('attribute_dates');

CREATE TABLE attribute_instants (
  tenant_id uuid NOT NULL,
  field_id uuid NOT NULL,
  record_id uuid NOT NULL,
  present boolean NOT NULL,
  value timestamptz NOT NULL,
  CONSTRAINT attribute_instants_key PRIMARY KEY (tenant_id, field_id, record_id)
);
CREATE INDEX attribute_instants_value ON attribute_instants (tenant_id, field_id, present, value, record_id);
SELECT rapport.protect('attribute_instants');

-- A field is one tenant's: who multiplied the shares of both would expect too few rows.
CREATE STATISTICS attribute_texts_field (dependencies) ON tenant_id, field_id FROM attribute_texts;
CREATE STATISTICS attribute_numbers_field (dependencies) ON tenant_id, field_id FROM attribute_numbers;
CREATE STATISTICS attribute_dates_field (dependencies) ON tenant_id, field_id FROM attribute_dates;
CREATE STATISTICS attribute_instants_field (dependencies) ON tenant_id, field_id FROM attribute_instants;

CREATE TABLE attribute_keys (
  tenant_id uuid NOT NULL,
  field_id uuid NOT NULL,
  value text COLLATE "C" NOT NULL,
  record_id uuid NOT NULL,
  CONSTRAINT attribute_keys_key PRIMARY KEY (tenant_id, field_id, value)
);
CREATE INDEX attribute_keys_record ON attribute_keys (tenant_id, record_id, field_id);
SELECT rapport.protect('attribute_keys');

-- The service's copy of the tenant directory. It learns of a tenant from the first signed token that names it and gives
-- way to a higher generation.
CREATE TABLE platform.tenants (
  id uuid NOT NULL PRIMARY KEY,
  state text NOT NULL
    CONSTRAINT tenants_state CHECK (state IN ('active', 'read_only', 'moving', 'suspended', 'deleted')),
  generation bigint NOT NULL,
  cell text NOT NULL DEFAULT 'local',
  region text NOT NULL DEFAULT '',
  fields_version bigint NOT NULL DEFAULT 0
);

-- What changed, in the transaction that changed it. The sequencer takes rows from here.
CREATE TABLE platform.outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  part smallint NOT NULL,
  resource text NOT NULL,
  record_id uuid NOT NULL,
  version bigint NOT NULL,
  subject text NOT NULL,
  type text NOT NULL,
  changed_paths text[] NOT NULL,
  payload bytea NOT NULL,
  principal text NOT NULL,
  on_behalf_of uuid,
  via text NOT NULL,
  cause uuid,
  trace text,
  time timestamptz NOT NULL
);

-- First answers to writes with a request id, kept for 72 hours.
CREATE TABLE platform.answers (
  tenant_id uuid NOT NULL,
  principal text NOT NULL,
  method text NOT NULL,
  key text NOT NULL,
  fingerprint bytea NOT NULL,
  answer bytea NOT NULL,
  expire_time timestamptz NOT NULL,
  CONSTRAINT answers_key PRIMARY KEY (tenant_id, principal, method, key)
);
CREATE INDEX answers_expire_time ON platform.answers (expire_time);

-- Learns a tenant's state from a token, unless a newer one is known. In a transaction of its own: in the caller's, everyone
-- who calls for this tenant would wait for that one to end.
CREATE FUNCTION rapport.learn(p_tenant uuid, p_state text, p_generation bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO platform.tenants AS t (id, state, generation) VALUES (p_tenant, p_state, p_generation)
  ON CONFLICT (id) DO UPDATE SET state = excluded.state, generation = excluded.generation
  WHERE t.generation < excluded.generation
$$;

-- The three functions that every write goes through set no search_path, which would cost about as much as what they do (in
-- PostgreSQL 15 each such call looks through all settings twice). None is needed: whoever may call them may become their
-- owner, and nobody else can make a function or an operator that a search_path would find first.

-- Enters a tenant, in the same round trip as BEGIN or in the statement that writes: sets who calls for which tenant, and
-- refuses early. RP002 the caller's knowledge of custom fields is old (detail: the version) · RP003 the tenant is not served
-- (detail: its state) · RP005 the request id was used for something else · RP006 unknown tenant · RP008 the token knows a newer
-- state of the tenant: learn it first.
--
-- For a write with a request id (from p_principal on) it gives the first answer back when there is one. Twins go one after the
-- other, so that the second finds the answer of the first. It is returned, not raised: what is raised stands in the server's log.
CREATE FUNCTION rapport.enter(
  p_tenant uuid, p_user text, p_all text, p_generation bigint, p_fields_version bigint,
  p_principal text DEFAULT NULL, p_method text DEFAULT NULL, p_key text DEFAULT NULL, p_fingerprint bytea DEFAULT NULL,
  p_now timestamptz DEFAULT NULL
) RETURNS bytea LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  known record;
  first record;
BEGIN
  SELECT state, generation, fields_version INTO known FROM platform.tenants WHERE id = p_tenant;
  IF NOT FOUND AND p_generation = 0 THEN
    RAISE EXCEPTION 'unknown tenant' USING ERRCODE = 'RP006';
  ELSIF NOT FOUND OR known.generation < p_generation THEN
    RAISE EXCEPTION 'newer state of the tenant' USING ERRCODE = 'RP008';
  END IF;
  IF known.state IN ('suspended', 'deleted') THEN
    RAISE EXCEPTION 'tenant is not served' USING ERRCODE = 'RP003', DETAIL = known.state;
  END IF;
  IF known.fields_version <> p_fields_version THEN
    RAISE EXCEPTION 'custom fields changed' USING ERRCODE = 'RP002', DETAIL = known.fields_version;
  END IF;
  PERFORM set_config('rapport.tenant', p_tenant::text, true), set_config('rapport.user', p_user, true),
    set_config('rapport.all', p_all, true);
  IF known.state <> 'active' THEN
    PERFORM set_config('transaction_read_only', 'on', true);
  END IF;
  IF p_key IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws(E'\n', p_tenant, p_principal, p_method, p_key), 2));
  SELECT fingerprint, answer INTO first FROM platform.answers
  WHERE tenant_id = p_tenant AND principal = p_principal AND method = p_method AND key = p_key
    AND expire_time > p_now;
  IF first.fingerprint <> p_fingerprint THEN
    RAISE EXCEPTION 'request id was used before' USING ERRCODE = 'RP005';
  END IF;
  RETURN first.answer;
END $$;

-- Writes events, refusing those of a tenant that may not be written now (RP004, detail: its state). Writers hold the
-- tenant's fields still: a definition that changes waits for them, and whoever began before the change begins again (RP007).
-- Events are numbered in the order given. The changed paths of each are one text: an array, as PostgreSQL writes it.
CREATE FUNCTION rapport.emit(
  p_fields_version bigint, p_event_ids uuid[], p_parts smallint[], p_resources text[], p_records uuid[],
  p_versions bigint[], p_subjects text[], p_types text[], p_paths text[], p_payloads bytea[],
  p_principal text, p_on_behalf_of uuid, p_via text, p_cause uuid, p_trace text, p_time timestamptz
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  tenant constant uuid := current_setting('rapport.tenant')::uuid;
  known record;
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtextextended(tenant::text, 1));
  SELECT state, fields_version INTO known FROM platform.tenants WHERE id = tenant;
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

-- Keeps the first answer to a request id. RP007: a twin of this request was faster.
CREATE FUNCTION rapport.answer(
  p_principal text, p_method text, p_key text, p_fingerprint bytea, p_answer bytea, p_now timestamptz
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO platform.answers AS a (tenant_id, principal, method, key, fingerprint, answer, expire_time)
  VALUES (current_setting('rapport.tenant')::uuid, p_principal, p_method, p_key, p_fingerprint, p_answer,
    p_now + interval '72 hours')
  ON CONFLICT (tenant_id, principal, method, key) DO UPDATE
  SET fingerprint = excluded.fingerprint, answer = excluded.answer, expire_time = excluded.expire_time
  WHERE a.expire_time <= p_now;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'a twin of this request was faster' USING ERRCODE = 'RP007';
  END IF;
END $$;

-- Says that the tenant's custom fields change, so that every process reads them again: call it first in the transaction
-- that changes them. It waits for the writers under way. The new version is that transaction's own from here on.
CREATE FUNCTION rapport.change_fields() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tenant constant uuid := current_setting('rapport.tenant')::uuid;
  changed bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(tenant::text, 1));
  UPDATE platform.tenants SET fields_version = fields_version + 1 WHERE id = tenant RETURNING fields_version INTO changed;
  RETURN changed;
END $$;

-- Fields whose index is being built, with how far it is.
CREATE TABLE platform.field_indexing (
  tenant_id uuid NOT NULL,
  field_id uuid NOT NULL,
  resource text NOT NULL,
  done_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  CONSTRAINT field_indexing_key PRIMARY KEY (tenant_id, field_id)
);

-- Asks for a field's index to be built.
CREATE FUNCTION rapport.index_field(p_field uuid, p_resource text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO platform.field_indexing (tenant_id, field_id, resource)
  VALUES (current_setting('rapport.tenant')::uuid, p_field, p_resource)
  ON CONFLICT (tenant_id, field_id) DO UPDATE SET done_to = '00000000-0000-0000-0000-000000000000'
$$;

-- Moves the index of a field on, from the record where this piece began to the last it did; NULL when there are no more.
-- False when somebody else moved it, or began it anew, in the meantime: then this piece does not count.
CREATE FUNCTION rapport.index_moved(p_field uuid, p_from uuid, p_to uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tenant constant uuid := current_setting('rapport.tenant')::uuid;
BEGIN
  IF p_to IS NULL THEN
    DELETE FROM platform.field_indexing WHERE tenant_id = tenant AND field_id = p_field AND done_to = p_from;
  ELSE
    UPDATE platform.field_indexing SET done_to = p_to WHERE tenant_id = tenant AND field_id = p_field AND done_to = p_from;
  END IF;
  RETURN FOUND;
END $$;

-- Which of these ids a table has, in sight or not: an id that is taken stays taken, whoever asks.
CREATE FUNCTION rapport.taken(p_table regclass, p_ids uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- One by one, and in the order of the primary key: of a table that has just grown, the planner would else read all of the
  -- tenant's rows, or all of another index that has the id behind other columns.
  RETURN QUERY EXECUTE format('SELECT t.id FROM unnest($2) AS k (id) CROSS JOIN LATERAL
    (SELECT tenant_id, id FROM %s WHERE (tenant_id, id) >= ($1, k.id) ORDER BY tenant_id, id LIMIT 1) t
    WHERE t.tenant_id = $1 AND t.id = k.id', p_table)
  USING current_setting('rapport.tenant')::uuid, p_ids;
END $$;

-- The version of the tenant's custom fields, for reading them under a version.
CREATE FUNCTION rapport.fields_version(p_tenant uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((SELECT fields_version FROM platform.tenants WHERE id = p_tenant), 0)
$$;

DO $$
DECLARE
  f regprocedure;
  t regclass;
BEGIN
  FOR t IN SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'platform'::regnamespace AND c.relkind = 'r' LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO rapport_platform', t);
  END LOOP;
  FOR f IN SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'rapport'::regnamespace AND p.prosecdef LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO %I', f,
      CASE WHEN f::text LIKE 'rapport.taken(%' THEN 'rapport_search' ELSE 'rapport_platform' END);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO rapport_service', f);
  END LOOP;
END $$;

-- Counts anew what the planner knows of tables that have doubled since it was counted last: whoever brings in records wants to
-- list them now, and autovacuum comes within a minute. Only a sketch, and none of documents and arrays, which takes long and
-- serves no plan; autovacuum, whose counters this leaves alone, draws the rest. Owned by the owner of the tables.
CREATE FUNCTION rapport.refresh_statistics() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET default_statistics_target = 25 AS $$
DECLARE
  tab record;
  refreshed integer := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(7261, 1) THEN
    RETURN 0;
  END IF;
  FOR tab IN
    SELECT s.relid::regclass AS name, (
      SELECT string_agg(quote_ident(a.attname), ', ')
      FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
      WHERE a.attrelid = s.relid AND a.attnum > 0 AND NOT a.attisdropped
        AND y.typcategory <> 'A' AND y.typname <> 'jsonb') AS columns
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    WHERE s.schemaname = 'public' AND s.n_live_tup > 500 + 2 * greatest(c.reltuples, 0)
  LOOP
    EXECUTE format('ANALYZE %s (%s)', tab.name, tab.columns);
    refreshed := refreshed + 1;
  END LOOP;
  RETURN refreshed;
END $$;
REVOKE ALL ON FUNCTION rapport.refresh_statistics FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.refresh_statistics TO rapport_service;
