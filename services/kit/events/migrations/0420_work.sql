-- Work that follows from events and is slow or leaves the house: queued once under its key, done by workers in turns of tenants,
-- tried again, and parked with the reason when that does not help. And what is to happen at a time.

-- What is ready to be worked on. Whoever holds the lease works on it; a lease that ran out is free.
CREATE TABLE platform.work (
  number bigint GENERATED ALWAYS AS IDENTITY,
  queue text NOT NULL,
  tenant_id uuid NOT NULL,
  key text NOT NULL,
  -- Stays the same however often it is tried: what others know the effect by.
  id uuid NOT NULL,
  -- The event that it follows from, and the record that it is about.
  event_id uuid,
  resource text NOT NULL,
  record_id uuid,
  payload jsonb NOT NULL,
  -- How often it failed, and how it did last.
  failures bigint NOT NULL,
  problem text NOT NULL,
  -- When it was first to be done.
  ready_time timestamptz NOT NULL,
  -- Whether it was asked for again while somebody worked on it.
  again boolean NOT NULL DEFAULT false,
  holder uuid,
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  CONSTRAINT work_key PRIMARY KEY (tenant_id, queue, key)
);
CREATE INDEX work_turn ON platform.work (tenant_id, number);

-- What becomes ready at a time: also what failed and is tried again later.
CREATE TABLE platform.timers (
  queue text NOT NULL,
  tenant_id uuid NOT NULL,
  key text NOT NULL,
  id uuid NOT NULL,
  event_id uuid,
  resource text NOT NULL,
  record_id uuid,
  payload jsonb NOT NULL,
  failures bigint NOT NULL,
  problem text NOT NULL,
  ready_time timestamptz NOT NULL,
  due_time timestamptz NOT NULL,
  CONSTRAINT timers_key PRIMARY KEY (tenant_id, queue, key)
);
CREATE INDEX timers_due_time ON platform.timers (due_time);

-- Queues work for the transaction's tenant, once under its key: what waits already waits on, what is being worked on is worked
-- on again where `p_again` says so, and what is to be tried later is tried later.
CREATE FUNCTION rapport.enqueue(p_queue text, p_key text, p_id uuid, p_event_id uuid, p_resource text, p_record_id uuid,
  p_payload jsonb, p_now timestamptz, p_again boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO platform.work (queue, tenant_id, key, id, event_id, resource, record_id, payload, failures, problem, ready_time)
  SELECT p_queue, tenant, p_key, p_id, p_event_id, p_resource, p_record_id, p_payload, 0, '', p_now
  FROM (SELECT current_setting('rapport.tenant')::uuid AS tenant) AS t
  WHERE NOT EXISTS (SELECT FROM platform.timers x WHERE x.tenant_id = tenant AND x.queue = p_queue AND x.key = p_key)
  ON CONFLICT (tenant_id, queue, key) DO UPDATE SET again = work.again OR p_again
$$;

-- Sets a timer of the transaction's tenant; one that was set under this key before is set anew.
CREATE FUNCTION rapport.set_timer(p_queue text, p_key text, p_id uuid, p_event_id uuid, p_resource text, p_record_id uuid,
  p_payload jsonb, p_due timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO platform.timers (queue, tenant_id, key, id, event_id, resource, record_id, payload, failures, problem, ready_time, due_time)
  VALUES (p_queue, current_setting('rapport.tenant')::uuid, p_key, p_id, p_event_id, p_resource, p_record_id, p_payload, 0, '',
    p_due, p_due)
  ON CONFLICT (tenant_id, queue, key) DO UPDATE SET id = excluded.id, event_id = excluded.event_id, resource = excluded.resource,
    record_id = excluded.record_id, payload = excluded.payload, failures = 0, problem = '', ready_time = excluded.ready_time,
    due_time = excluded.due_time
$$;

-- Takes a timer of the transaction's tenant back; false when it is not there any more.
CREATE FUNCTION rapport.cancel_timer(p_queue text, p_key text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM platform.timers
    WHERE tenant_id = current_setting('rapport.tenant')::uuid AND queue = p_queue AND key = p_key RETURNING 1)
  SELECT EXISTS (SELECT FROM gone)
$$;

-- Says that work is done, in the transaction of its effects. False when somebody else holds it by now: then nothing of it counts.
CREATE FUNCTION rapport.finish_work(p_queue text, p_key text, p_holder uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  asked_again boolean;
BEGIN
  SELECT again INTO asked_again FROM platform.work
  WHERE tenant_id = current_setting('rapport.tenant')::uuid AND queue = p_queue AND key = p_key AND holder = p_holder
  FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  ELSIF asked_again THEN
    UPDATE platform.work SET again = false, holder = NULL, lease_until = '-infinity', failures = 0, problem = ''
    WHERE tenant_id = current_setting('rapport.tenant')::uuid AND queue = p_queue AND key = p_key;
  ELSE
    DELETE FROM platform.work WHERE tenant_id = current_setting('rapport.tenant')::uuid AND queue = p_queue AND key = p_key;
  END IF;
  RETURN true;
END $$;

-- What is stuck, why, and since when: events that a handler could not work off, with those of the same record that wait behind
-- them, and work that was tried often enough.
ALTER TABLE parked_events RENAME TO parked_items;
ALTER TABLE parked_items RENAME CONSTRAINT parked_events_id TO parked_items_id;
ALTER TABLE parked_items DROP CONSTRAINT parked_events_event;
ALTER TABLE parked_items DROP CONSTRAINT parked_events_state;
ALTER TABLE parked_items ADD CONSTRAINT parked_items_state
  CHECK (state IN ('parked', 'behind', 'done', 'replayed', 'discarded'));
ALTER INDEX parked_events_record RENAME TO parked_items_record;
ALTER INDEX parked_events_create_time RENAME TO parked_items_create_time;
ALTER TABLE parked_items ADD COLUMN kind text NOT NULL DEFAULT 'event'
  CONSTRAINT parked_items_kind CHECK (kind IN ('event', 'work'));
CREATE UNIQUE INDEX parked_items_event ON parked_items (tenant_id, producer, handler, event_id) WHERE kind = 'event';

-- Which handlers have something parked of these records. Whoever tries one of them again holds the record until that is over.
CREATE OR REPLACE FUNCTION rapport.parked(p_producer text, p_tenants uuid[], p_records uuid[])
RETURNS TABLE (handler text, tenant_id uuid, record_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  r uuid;
BEGIN
  FOR r IN
    SELECT DISTINCT p.record_id FROM unnest(p_tenants, p_records) AS x (tenant_id, record_id)
    JOIN parked_items p ON p.tenant_id = x.tenant_id AND p.record_id = x.record_id AND p.producer = p_producer
      AND p.state IN ('parked', 'behind')
    ORDER BY 1
  LOOP
    PERFORM pg_advisory_xact_lock(hashtextextended(r::text, 4));
  END LOOP;
  IF r IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY SELECT DISTINCT p.handler, p.tenant_id, p.record_id
    FROM unnest(p_tenants, p_records) AS x (tenant_id, record_id)
    JOIN parked_items p ON p.tenant_id = x.tenant_id AND p.record_id = x.record_id AND p.producer = p_producer
      AND p.state IN ('parked', 'behind');
END $$;
ALTER FUNCTION rapport.parked OWNER TO rapport_search;
REVOKE ALL ON FUNCTION rapport.parked FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.parked TO rapport_service;

-- What became of everything that starts because of an event: one line for each event, trigger and step.
CREATE TABLE ledger_entries (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  event_id uuid NOT NULL,
  -- What was to start, e.g. `webhook/0190…`.
  trigger text NOT NULL,
  step text NOT NULL,
  outcome text NOT NULL CONSTRAINT ledger_entries_outcome CHECK (outcome IN ('waiting', 'done', 'skipped', 'failed', 'parked')),
  -- Why it is not done, in a word and in words.
  reason text NOT NULL,
  problem text NOT NULL,
  attempts bigint NOT NULL,
  detail jsonb NOT NULL,
  -- The event, for people: what happened to which record.
  subject text NOT NULL,
  record text NOT NULL,
  event_time timestamptz NOT NULL,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  CONSTRAINT ledger_entries_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT ledger_entries_key UNIQUE (tenant_id, event_id, trigger, step)
);
CREATE INDEX ledger_entries_create_time ON ledger_entries (tenant_id, create_time, id);
CREATE INDEX ledger_entries_record ON ledger_entries (tenant_id, record, create_time);
CREATE INDEX ledger_entries_trigger ON ledger_entries (tenant_id, trigger, create_time);
SELECT rapport.protect('ledger_entries');

DO $$
DECLARE
  t text;
  f regprocedure;
BEGIN
  FOREACH t IN ARRAY ARRAY['work', 'timers'] LOOP
    EXECUTE format('ALTER TABLE platform.%s OWNER TO rapport_platform', t);
  END LOOP;
  FOREACH f IN ARRAY ARRAY['rapport.enqueue(text, text, uuid, uuid, text, uuid, jsonb, timestamptz, boolean)',
    'rapport.set_timer(text, text, uuid, uuid, text, uuid, jsonb, timestamptz)', 'rapport.cancel_timer(text, text)',
    'rapport.finish_work(text, text, uuid)']::regprocedure[] LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO rapport_platform', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO rapport_service', f);
  END LOOP;
END $$;
