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
