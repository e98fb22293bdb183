-- Imports: what is brought in, what it wrote, what it refused, and the queue of those that are to be worked on.

CREATE TABLE imports (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  resource text NOT NULL,
  source text NOT NULL,
  file_name text NOT NULL,
  mappings jsonb NOT NULL,
  existing text NOT NULL CONSTRAINT imports_existing CHECK (existing IN ('update', 'skip')),
  state text NOT NULL CONSTRAINT imports_state CHECK (state IN (
    'waiting', 'ready', 'checking', 'checked', 'running', 'done', 'cancelled', 'failed', 'undoing', 'undone')),
  phase text NOT NULL CONSTRAINT imports_phase CHECK (phase IN ('none', 'check', 'run', 'undo')),
  file jsonb,
  progress jsonb NOT NULL,
  failure text NOT NULL,
  creator uuid,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  -- Under whose rights it is worked on. Not part of the record that callers read.
  run_as jsonb,
  CONSTRAINT imports_id PRIMARY KEY (tenant_id, id)
);
CREATE INDEX imports_create_time ON imports (tenant_id, create_time, id);
CREATE INDEX imports_resource ON imports (tenant_id, resource, id);
CREATE INDEX imports_state ON imports (tenant_id, state, id);
SELECT rapport.protect('imports');

-- What an import wrote, for taking it back: a row for each record, with the version that the import left it at and, for a
-- record that was there before, the values that it had. No foreign key: it would cost a check for each of a million rows.
CREATE TABLE import_rows (
  tenant_id uuid NOT NULL,
  import_id uuid NOT NULL,
  record_id uuid NOT NULL,
  line bigint NOT NULL,
  version bigint NOT NULL,
  before jsonb,
  CONSTRAINT import_rows_key PRIMARY KEY (tenant_id, import_id, record_id)
);
SELECT rapport.protect('import_rows');

-- Why rows were refused; `start` and `length` say where in the file the row lies.
CREATE TABLE import_issues (
  tenant_id uuid NOT NULL,
  import_id uuid NOT NULL,
  line bigint NOT NULL,
  position smallint NOT NULL,
  start bigint NOT NULL,
  length bigint NOT NULL,
  file_column text NOT NULL,
  field text NOT NULL,
  value text NOT NULL,
  problem text NOT NULL,
  CONSTRAINT import_issues_key PRIMARY KEY (tenant_id, import_id, line, position)
);
SELECT rapport.protect('import_issues');

-- The imports that are to be worked on, of all tenants. Whoever holds the lease works on it; a lease that ran out is free.
CREATE TABLE platform.import_work (
  tenant_id uuid NOT NULL,
  import_id uuid NOT NULL,
  holder uuid,
  lease_until timestamptz NOT NULL,
  enqueue_time timestamptz NOT NULL,
  CONSTRAINT import_work_key PRIMARY KEY (tenant_id, import_id)
);

-- Asks for an import of the transaction's tenant to be worked on.
CREATE FUNCTION rapport.enqueue_import(p_import uuid, p_now timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO platform.import_work (tenant_id, import_id, holder, lease_until, enqueue_time)
  VALUES (current_setting('rapport.tenant')::uuid, p_import, NULL, p_now, p_now)
  ON CONFLICT (tenant_id, import_id) DO UPDATE
  SET holder = NULL, lease_until = excluded.lease_until, enqueue_time = excluded.enqueue_time
$$;

-- Says that there is nothing more to do for it.
CREATE FUNCTION rapport.dequeue_import(p_import uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM platform.import_work
  WHERE tenant_id = current_setting('rapport.tenant')::uuid AND import_id = p_import
$$;

-- Renews the lease, in the transaction of a batch: its row stays locked until the batch is over, so that nobody takes the
-- import over in the middle of one, however late the holder is. Answers with the version of the tenant's custom fields;
-- null when somebody else holds the lease, or nobody is to work on the import any more.
CREATE FUNCTION rapport.hold_import(p_import uuid, p_holder uuid, p_until timestamptz) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH held AS (
    UPDATE platform.import_work SET lease_until = p_until
    WHERE tenant_id = current_setting('rapport.tenant')::uuid AND import_id = p_import AND holder = p_holder
    RETURNING 1)
  SELECT EXISTS (SELECT FROM held)
$$;

ALTER TABLE platform.import_work OWNER TO rapport_platform;
DO $$
DECLARE
  f regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY['rapport.enqueue_import(uuid, timestamptz)', 'rapport.dequeue_import(uuid)',
    'rapport.hold_import(uuid, uuid, timestamptz)']::regprocedure[] LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO rapport_platform', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO rapport_service', f);
  END LOOP;
END $$;
