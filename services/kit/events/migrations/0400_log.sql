-- The log: every change of this service, numbered without gaps, chained, and kept by class and day.

-- What one process of the service does at a time: lead the log, hear another service. `epoch` says whose turn it is, and
-- whatever that one writes is bound to it, so that one which was replaced and does not know it yet changes nothing. `beat`
-- grows while it lives: whoever stands by watches it by a clock of its own, since machines do not agree on the time.
CREATE TABLE platform.leads (
  name text NOT NULL PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 0,
  beat bigint NOT NULL DEFAULT 0
);

-- Where the log stands.
CREATE TABLE platform.log_head (
  id boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (id),
  -- The last number of all, of each partition, and the day that the last line was filed under.
  number bigint NOT NULL DEFAULT 0,
  part_numbers bigint[] NOT NULL DEFAULT array_fill(0::bigint, ARRAY[32]),
  day date NOT NULL DEFAULT '-infinity'
);
INSERT INTO platform.log_head DEFAULT VALUES;

-- The last number of each tenant.
CREATE TABLE platform.tenant_numbers (
  tenant_id uuid NOT NULL PRIMARY KEY,
  number bigint NOT NULL
);

-- The last link of each chain: one for each retention class and partition, so that what is dropped by class and day leaves
-- the chains of the others whole.
CREATE TABLE platform.log_chains (
  retention text NOT NULL PRIMARY KEY,
  links bytea[] NOT NULL DEFAULT array_fill('\x0000000000000000000000000000000000000000000000000000000000000000'::bytea, ARRAY[32])
);
INSERT INTO platform.log_chains (retention) VALUES ('standard'), ('extended'), ('permanent');

-- How long a tenant's plan keeps its log.
ALTER TABLE platform.tenants ADD COLUMN retention text NOT NULL DEFAULT 'standard'
  CONSTRAINT tenants_retention CHECK (retention IN ('standard', 'extended', 'permanent'));

-- The log. Days never go back, whatever the clock does.
CREATE TABLE platform.event_log (
  retention text NOT NULL,
  day date NOT NULL,
  number bigint NOT NULL,
  part smallint NOT NULL,
  part_number bigint NOT NULL,
  tenant_number bigint NOT NULL,
  event_id uuid NOT NULL,
  tenant_id uuid NOT NULL,
  resource text NOT NULL,
  record_id uuid NOT NULL,
  version bigint NOT NULL,
  subject text NOT NULL,
  type text NOT NULL,
  changed_paths text[] NOT NULL,
  -- NULL once it was erased; the digest stays.
  payload bytea,
  principal text NOT NULL,
  on_behalf_of uuid,
  via text NOT NULL,
  cause uuid,
  trace text,
  time timestamptz NOT NULL,
  log_time timestamptz NOT NULL,
  payload_digest bytea NOT NULL,
  -- SHA-256 of the link before it, this line's numbers and its digest.
  link bytea NOT NULL,
  CONSTRAINT event_log_number PRIMARY KEY (number, day, retention)
) PARTITION BY LIST (retention);
CREATE INDEX event_log_part ON platform.event_log (part, part_number);
CREATE INDEX event_log_tenant ON platform.event_log (tenant_id, tenant_number);
CREATE INDEX event_log_record ON platform.event_log (tenant_id, resource, record_id, version);

CREATE TABLE platform.event_log_standard PARTITION OF platform.event_log FOR VALUES IN ('standard') PARTITION BY RANGE (day);
CREATE TABLE platform.event_log_extended PARTITION OF platform.event_log FOR VALUES IN ('extended') PARTITION BY RANGE (day);
CREATE TABLE platform.event_log_permanent PARTITION OF platform.event_log FOR VALUES IN ('permanent') PARTITION BY RANGE (day);

-- The days of the log, each with the numbers that were the last before it: where to look for a number.
CREATE TABLE platform.log_days (
  day date NOT NULL PRIMARY KEY,
  number_before bigint NOT NULL,
  part_numbers_before bigint[] NOT NULL
);

-- The last day that was dropped of each retention class, with the links that its chains go on from.
CREATE TABLE platform.log_dropped (
  retention text NOT NULL PRIMARY KEY,
  day date NOT NULL,
  links bytea[] NOT NULL
);

-- How far the bus has come: it holds everything up to `number`, the last of that under `stream_sequence` of the stream that was
-- made at `stream_created`. `attempt` grows with every time that the bus had lost something.
CREATE TABLE platform.log_relay (
  id boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (id),
  number bigint NOT NULL DEFAULT 0,
  stream_sequence bigint NOT NULL DEFAULT 0,
  stream_created text NOT NULL DEFAULT '',
  attempt bigint NOT NULL DEFAULT 0
);
INSERT INTO platform.log_relay DEFAULT VALUES;

-- The digest of a line: SHA-256 of its values as PostgreSQL sends a row of them (`record_send`: for each its type, its length
-- and itself); of the payload only the digest, so that it can be erased. `rapport_events::digest` computes the same.
CREATE FUNCTION rapport.line_digest(line platform.outbox) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT sha256(record_send(ROW(line.event_id, line.tenant_id, line.part, line.resource, line.record_id, line.version,
    line.subject, line.type, line.changed_paths, sha256(line.payload), line.principal, line.on_behalf_of, line.via, line.cause,
    line.trace, line.time)))
$$;

-- Makes the log's tables for a day, without standing in the way of those who read or write it.
CREATE FUNCTION rapport.file_log_under(p_day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  class text;
  tab text;
BEGIN
  FOREACH class IN ARRAY ARRAY['standard', 'extended', 'permanent'] LOOP
    tab := 'event_log_' || class || to_char(p_day, '_YYYYMMDD');
    IF to_regclass('platform.' || tab) IS NULL THEN
      EXECUTE format('CREATE TABLE platform.%I (LIKE platform.event_log)', tab);
      EXECUTE format('ALTER TABLE platform.%I ATTACH PARTITION platform.%I FOR VALUES FROM (%L) TO (%L)',
        'event_log_' || class, tab, p_day, p_day + 1);
    END IF;
  END LOOP;
END $$;

DO $$
DECLARE
  t text;
  f regprocedure;
BEGIN
  FOREACH t IN ARRAY ARRAY['leads', 'log_head', 'tenant_numbers', 'log_chains', 'event_log', 'event_log_standard', 'event_log_extended',
    'event_log_permanent', 'log_days', 'log_dropped', 'log_relay'] LOOP
    EXECUTE format('ALTER TABLE platform.%s OWNER TO rapport_platform', t);
  END LOOP;
  FOREACH f IN ARRAY ARRAY['rapport.line_digest(platform.outbox)', 'rapport.file_log_under(date)']::regprocedure[] LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO rapport_platform', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
  END LOOP;
END $$;
