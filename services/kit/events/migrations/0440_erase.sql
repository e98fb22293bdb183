-- Erasing: what the log, and whatever followed from it, keeps of a record goes; that something happened, when and by whom, stays.

-- Blanks the payloads of all lines about a record of the transaction's tenant, and what else spans tenants and has its values in
-- it: first answers (a repeated request then gets an empty answer, and still has no second effect), work and timers about it,
-- messages that were set aside. The digests stay, so that the chains verify. False, and nothing is done, while events
-- of the record wait in the outbox: their digests are not in the log yet.
CREATE FUNCTION rapport.erase(p_resource text, p_record uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  tenant constant uuid := current_setting('rapport.tenant')::uuid;
  named constant bytea := convert_to(p_record::text, 'UTF8');
BEGIN
  IF EXISTS (SELECT FROM platform.outbox WHERE tenant_id = tenant AND resource = p_resource AND record_id = p_record) THEN
    RETURN false;
  END IF;
  UPDATE platform.event_log SET payload = NULL
  WHERE tenant_id = tenant AND resource = p_resource AND record_id = p_record AND payload IS NOT NULL;
  UPDATE platform.answers SET answer = '' WHERE tenant_id = tenant AND position(named IN answer) > 0;
  DELETE FROM platform.work WHERE tenant_id = tenant AND resource = p_resource AND record_id = p_record;
  DELETE FROM platform.timers WHERE tenant_id = tenant AND resource = p_resource AND record_id = p_record;
  DELETE FROM platform.set_aside WHERE position(named IN payload) > 0;
  RETURN true;
END $$;

-- Whether events of a record of this tenant wait in the outbox.
CREATE FUNCTION rapport.waits(p_tenant uuid, p_resource text, p_record uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM platform.outbox WHERE tenant_id = p_tenant AND resource = p_resource AND record_id = p_record)
$$;

DO $$
DECLARE
  f regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY['rapport.erase(text, uuid)', 'rapport.waits(uuid, text, uuid)']::regprocedure[] LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO rapport_platform', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
  END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION rapport.erase(text, uuid) TO rapport_service;
