-- Reactions to other services' events: how far each log was heard, what was set aside, what is parked.

-- The last number that took effect, by log and partition. It moves in the transaction of the effects, so that each has its
-- effect once; and since it moves by one, that there are no gaps shows that nothing was lost.
CREATE TABLE platform.watermarks (
  producer text NOT NULL,
  part smallint NOT NULL,
  number bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (producer, part)
);

-- Messages of the bus that were not believed.
CREATE TABLE platform.set_aside (
  id uuid NOT NULL PRIMARY KEY,
  producer text NOT NULL,
  subject text NOT NULL,
  headers jsonb NOT NULL,
  payload bytea NOT NULL,
  reason text NOT NULL,
  create_time timestamptz NOT NULL
);

-- Events that a handler could not work off, and those of the same record that wait behind them.
CREATE TABLE parked_events (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  producer text NOT NULL,
  handler text NOT NULL,
  event_id uuid NOT NULL,
  type text NOT NULL,
  resource text NOT NULL,
  record_id uuid NOT NULL,
  record_version bigint NOT NULL,
  part smallint NOT NULL,
  part_number bigint NOT NULL,
  state text NOT NULL CONSTRAINT parked_events_state CHECK (state IN ('parked', 'behind', 'done', 'discarded')),
  reason text NOT NULL,
  problem text NOT NULL,
  attempts bigint NOT NULL,
  -- The event as the log had it.
  line bytea NOT NULL,
  event_time timestamptz NOT NULL,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  CONSTRAINT parked_events_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT parked_events_event UNIQUE (tenant_id, producer, handler, event_id)
);
CREATE INDEX parked_events_record ON parked_events (tenant_id, record_id, producer, handler, part_number)
  WHERE state IN ('parked', 'behind');
CREATE INDEX parked_events_create_time ON parked_events (tenant_id, create_time, id);
SELECT rapport.protect('parked_events');

-- Which handlers have something parked of these records.
CREATE FUNCTION rapport.parked(p_producer text, p_tenants uuid[], p_records uuid[])
RETURNS TABLE (handler text, tenant_id uuid, record_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT DISTINCT p.handler, p.tenant_id, p.record_id
  FROM unnest(p_tenants, p_records) AS x (tenant_id, record_id)
  JOIN parked_events p ON p.tenant_id = x.tenant_id AND p.record_id = x.record_id AND p.producer = p_producer
    AND p.state IN ('parked', 'behind')
$$;

-- Moves a watermark on. False when it is not where the caller thinks: somebody else heard these events.
CREATE FUNCTION rapport.hear(p_producer text, p_part smallint, p_from bigint, p_to bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE platform.watermarks SET number = p_to
  WHERE producer = p_producer AND part = p_part AND number = p_from;
  RETURN FOUND;
END $$;

DO $$
DECLARE
  f regprocedure;
BEGIN
  ALTER TABLE platform.watermarks OWNER TO rapport_platform;
  ALTER TABLE platform.set_aside OWNER TO rapport_platform;
  ALTER FUNCTION rapport.parked OWNER TO rapport_search;
  ALTER FUNCTION rapport.hear OWNER TO rapport_platform;
  FOREACH f IN ARRAY ARRAY['rapport.parked(text, uuid[], uuid[])', 'rapport.hear(text, smallint, bigint, bigint)']::regprocedure[]
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO rapport_service', f);
  END LOOP;
END $$;
