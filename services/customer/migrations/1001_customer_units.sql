-- Customers are seen by those who see what belongs to their unit, too.
CREATE INDEX customers_unit ON customers (tenant_id, unit_id, create_time, id);
SELECT rapport.protect('customers', resource => 'customer', owner => 'owner_id', unit => 'unit_id');

-- Finds customers of the transaction's tenant that the transaction's user sees. Trigram operators are not leakproof, so
-- under row-level security no index would serve them: this function runs as a role whose policy lets it read everything,
-- and names tenant and scope itself. What the caller's roles hide is passed as NULL and not searched.
CREATE OR REPLACE FUNCTION rapport.search_customers(
  p_name text, p_bigrams text[], p_email text, p_digits text, p_limit integer
) RETURNS TABLE (id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH caller AS (
    SELECT current_setting('rapport.tenant')::uuid AS tenant_id,
      nullif(current_setting('rapport.user'), '')::uuid AS user_id,
      strpos(current_setting('rapport.all'), ',customer,') > 0 AS sees_all,
      strpos(current_setting('rapport.all'), ',customer@unit,') > 0 AS sees_units
  ), hits AS (
    -- A branch for each kind of text, so that each is served by the index.
    (SELECT s.record_id, s.name FROM customer_search s
     WHERE s.tenant_id = current_setting('rapport.tenant')::uuid
       AND p_bigrams IS NOT NULL AND s.bigrams @> p_bigrams AND strpos(s.name, p_name) > 0 LIMIT 1000)
    UNION
    (SELECT s.record_id, s.name FROM customer_search s
     WHERE s.tenant_id = current_setting('rapport.tenant')::uuid
       AND p_bigrams IS NULL AND p_name IS NOT NULL AND s.name LIKE '%' || p_name || '%' LIMIT 1000)
    UNION
    (SELECT s.record_id, s.name FROM customer_search s
     WHERE s.tenant_id = current_setting('rapport.tenant')::uuid
       AND p_email IS NOT NULL AND s.emails LIKE '%' || p_email || '%' LIMIT 1000)
    UNION
    (SELECT s.record_id, s.name FROM customer_search s
     WHERE s.tenant_id = current_setting('rapport.tenant')::uuid
       AND p_digits IS NOT NULL AND s.phones LIKE '%' || p_digits || '%' LIMIT 1000)
  )
  SELECT c.id FROM hits h JOIN caller ON true
    JOIN customers c ON c.tenant_id = caller.tenant_id AND c.id = h.record_id
  WHERE c.delete_time IS NULL
    AND (caller.sees_all OR c.owner_id = caller.user_id OR EXISTS (
      SELECT FROM record_shares r
      WHERE r.tenant_id = caller.tenant_id AND r.resource = 'customer' AND r.record_id = c.id
        AND r.principal = caller.user_id)
      OR (caller.sees_units AND c.unit_id IN (
        SELECT b.unit_id FROM directory_users u
        JOIN directory_units_below b ON b.tenant_id = u.tenant_id AND b.above_id = u.unit_id
        WHERE u.tenant_id = caller.tenant_id AND u.id = caller.user_id)))
  ORDER BY (h.name = p_name) DESC NULLS LAST, (starts_with(h.name, p_name)) DESC NULLS LAST, length(h.name), c.id
  LIMIT p_limit
$$;
