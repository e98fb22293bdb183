-- Webhooks: where a tenant's events are sent.

CREATE TABLE webhooks (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  url text NOT NULL,
  subjects text[] NOT NULL,
  filter text NOT NULL,
  state text NOT NULL CONSTRAINT webhooks_state CHECK (state IN ('on', 'off')),
  off_reason text NOT NULL,
  start_after bigint NOT NULL,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  -- Under whose rights it sends. Not part of the record that callers read.
  run_as jsonb,
  CONSTRAINT webhooks_id PRIMARY KEY (tenant_id, id)
);
CREATE INDEX webhooks_create_time ON webhooks (tenant_id, create_time, id);
CREATE INDEX webhooks_display_name ON webhooks (tenant_id, display_name, id);
SELECT rapport.protect('webhooks');

-- What messages are signed with: the newest, and those before that still sign.
CREATE TABLE webhook_secrets (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  id uuid NOT NULL,
  secret bytea NOT NULL,
  expire_time timestamptz,
  CONSTRAINT webhook_secrets_id PRIMARY KEY (tenant_id, id)
);
CREATE INDEX webhook_secrets_webhook ON webhook_secrets (tenant_id, webhook_id);
SELECT rapport.protect('webhook_secrets');

-- How far each lane of a webhook has come. The events of a record are in one lane, so that they are sent in order.
CREATE TABLE webhook_lanes (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  lane smallint NOT NULL,
  -- The tenant's number up to which everything of this lane was sent, or given up.
  number bigint NOT NULL,
  -- Since when the next one does not arrive.
  failing_since timestamptz,
  -- When something last arrived.
  success_time timestamptz,
  CONSTRAINT webhook_lanes_key PRIMARY KEY (tenant_id, webhook_id, lane)
);
SELECT rapport.protect('webhook_lanes');

-- Up to which number of the log webhooks were woken.
CREATE TABLE platform.webhook_head (
  id boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (id),
  number bigint NOT NULL DEFAULT 0
);
INSERT INTO platform.webhook_head DEFAULT VALUES;

-- The webhooks of these tenants that are on.
CREATE FUNCTION rapport.webhooks_on(p_tenants uuid[]) RETURNS TABLE (tenant_id uuid, webhook_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT w.tenant_id, w.id FROM webhooks w WHERE w.tenant_id = ANY(p_tenants) AND w.state = 'on'
$$;
ALTER FUNCTION rapport.webhooks_on OWNER TO rapport_search;
REVOKE ALL ON FUNCTION rapport.webhooks_on FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.webhooks_on TO rapport_platform;
ALTER TABLE platform.webhook_head OWNER TO rapport_platform;

-- An event by its id, and what followed from one.
CREATE INDEX event_log_event ON platform.event_log (event_id);
CREATE INDEX event_log_cause ON platform.event_log (cause) WHERE cause IS NOT NULL;
