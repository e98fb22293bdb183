-- Copies of other services' records: which are complete, and how the owner's records are walked.

-- Copies that were compared with their owner's records from the first to the last.
CREATE TABLE platform.copies (
  producer text NOT NULL,
  name text NOT NULL,
  -- What was copied where, when they were: other columns want all of it again.
  shape text NOT NULL,
  records bigint NOT NULL,
  -- Records that were not here as their owner has them, though what was under way had been heard: since the beginning, and last time.
  differences bigint NOT NULL,
  last_differences bigint NOT NULL,
  compare_time timestamptz NOT NULL,
  PRIMARY KEY (producer, name)
);
ALTER TABLE platform.copies OWNER TO rapport_platform;

-- Events that the producer's log had dropped before they were heard, and which nobody hears any more.
ALTER TABLE platform.watermarks ADD COLUMN left_out bigint NOT NULL DEFAULT 0;

-- What identity says of a tenant: by which class its events are filed from now on. It says so in the tenant itself, or on the
-- operators' plane.
CREATE FUNCTION rapport.file_tenant(p_tenant uuid, p_retention text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('rapport.tenant')::uuid NOT IN (p_tenant, '00000000-0000-8000-8000-6f7065726174') THEN
    RAISE EXCEPTION 'a tenant is filed by itself or by operators';
  END IF;
  UPDATE platform.tenants SET retention = p_retention WHERE id = p_tenant;
END $$;
ALTER FUNCTION rapport.file_tenant OWNER TO rapport_platform;
REVOKE ALL ON FUNCTION rapport.file_tenant FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.file_tenant TO rapport_service;

-- Ids and versions of a table's records that are not deleted, of all tenants in the order of the primary key: those after one
-- key up to another one, the first `p_most` of them.
CREATE FUNCTION rapport.record_keys(
  p_table regclass, p_after_tenant uuid, p_after uuid, p_to_tenant uuid, p_to uuid, p_most integer
) RETURNS TABLE (tenant_id uuid, id uuid, version bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  lives text;
BEGIN
  SELECT string_agg(CASE attname WHEN 'deleted' THEN ' AND NOT deleted' ELSE ' AND delete_time IS NULL' END, '') INTO lives
  FROM pg_attribute WHERE attrelid = p_table AND attname IN ('deleted', 'delete_time') AND NOT attisdropped;
  RETURN QUERY EXECUTE format('SELECT tenant_id, id, version FROM %s
    WHERE (tenant_id, id) > ($1, $2) AND (tenant_id, id) <= ($3, $4)%s ORDER BY tenant_id, id LIMIT $5', p_table, lives)
  USING p_after_tenant, p_after, p_to_tenant, p_to, p_most;
END $$;
ALTER FUNCTION rapport.record_keys OWNER TO rapport_search;
REVOKE ALL ON FUNCTION rapport.record_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.record_keys TO rapport_service;
