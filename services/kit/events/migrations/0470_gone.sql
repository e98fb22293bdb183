-- The keys of a table's records after one and up to another, in order; those that are gone only where they are asked for. The one
-- without `p_gone` stays for the version that runs until it is replaced.
CREATE FUNCTION rapport.record_keys(
  p_table regclass, p_after_tenant uuid, p_after uuid, p_to_tenant uuid, p_to uuid, p_most integer, p_gone boolean
) RETURNS TABLE (tenant_id uuid, id uuid, version bigint, gone boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_gone text;
BEGIN
  SELECT coalesce(string_agg(CASE attname WHEN 'deleted' THEN 'deleted' ELSE 'delete_time IS NOT NULL' END, ' OR '), 'false')
  INTO is_gone
  FROM pg_attribute WHERE attrelid = p_table AND attname IN ('deleted', 'delete_time') AND NOT attisdropped;
  RETURN QUERY EXECUTE format('SELECT tenant_id, id, version, %1$s FROM %2$s
    WHERE (tenant_id, id) > ($1, $2) AND (tenant_id, id) <= ($3, $4) AND ($6 OR NOT (%1$s)) ORDER BY tenant_id, id LIMIT $5',
    is_gone, p_table)
  USING p_after_tenant, p_after, p_to_tenant, p_to, p_most, p_gone;
END $$;
ALTER FUNCTION rapport.record_keys(regclass, uuid, uuid, uuid, uuid, integer, boolean) OWNER TO rapport_search;
REVOKE ALL ON FUNCTION rapport.record_keys(regclass, uuid, uuid, uuid, uuid, integer, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.record_keys(regclass, uuid, uuid, uuid, uuid, integer, boolean) TO rapport_service;

-- How far a producer's log was heard, partition by partition.
CREATE FUNCTION rapport.heard(p_producer text) RETURNS bigint[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT array_agg(number ORDER BY part) FROM platform.watermarks WHERE producer = p_producer
$$;
ALTER FUNCTION rapport.heard OWNER TO rapport_platform;
REVOKE ALL ON FUNCTION rapport.heard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.heard TO rapport_service;
