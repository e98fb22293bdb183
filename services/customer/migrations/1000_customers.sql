-- Customers: companies and persons (C1 to C6).
CREATE TABLE customers (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  type text NOT NULL CONSTRAINT customers_type CHECK (type IN ('company', 'person')),
  display_name text COLLATE "zh-x-icu" NOT NULL,
  status text NOT NULL CONSTRAINT customers_status CHECK (status IN ('potential', 'target', 'existing')),
  kind text NOT NULL CONSTRAINT customers_kind CHECK (kind IN ('consumer', 'business', 'channel', 'internal')),
  owner_id uuid,
  unit_id uuid,
  phones jsonb NOT NULL,
  emails jsonb NOT NULL,
  addresses jsonb NOT NULL,
  industry text NOT NULL,
  headcount bigint,
  revenue_minor bigint,
  revenue_currency text,
  founding_date date,
  birth_date date,
  tags text[] NOT NULL,
  attributes jsonb NOT NULL,
  external_ids jsonb NOT NULL,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  delete_time timestamptz,
  CONSTRAINT customers_id PRIMARY KEY (tenant_id, id)
);
CREATE INDEX customers_display_name ON customers (tenant_id, display_name, id) WHERE delete_time IS NULL;
CREATE INDEX customers_create_time ON customers (tenant_id, create_time, id) WHERE delete_time IS NULL;
CREATE INDEX customers_update_time ON customers (tenant_id, update_time, id) WHERE delete_time IS NULL;
CREATE INDEX customers_owner ON customers (tenant_id, owner_id, create_time, id);
SELECT rapport.protect('customers', resource => 'customer', owner => 'owner_id');

-- What customers are found by: names and addresses in lower case, digits of phones, and pairs of Han characters, which
-- trigrams alone would miss in names of two.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE TABLE customer_search (
  tenant_id uuid NOT NULL,
  record_id uuid NOT NULL,
  name text NOT NULL,
  bigrams text[] NOT NULL,
  emails text NOT NULL,
  phones text NOT NULL,
  CONSTRAINT customer_search_key PRIMARY KEY (tenant_id, record_id)
);
-- Whoever fills the list of what is not merged yet waits for the merge, whoever's rows they are: it is kept short.
CREATE INDEX customer_search_text ON customer_search
  USING gin (tenant_id, name gin_trgm_ops, bigrams, emails gin_trgm_ops, phones gin_trgm_ops)
  WITH (gin_pending_list_limit = 256);
SELECT rapport.protect('customer_search');

-- Finds customers of the transaction's tenant that the transaction's user sees. Trigram operators are not leakproof, so
-- under row-level security no index would serve them: this function runs as a role whose policy lets it read everything,
-- and names tenant and scope itself. What the caller's roles hide is passed as NULL and not searched.
CREATE FUNCTION rapport.search_customers(
  p_name text, p_bigrams text[], p_email text, p_digits text, p_limit integer
) RETURNS TABLE (id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  WITH caller AS (
    SELECT current_setting('rapport.tenant')::uuid AS tenant_id,
      nullif(current_setting('rapport.user'), '')::uuid AS user_id,
      strpos(current_setting('rapport.all'), ',customer,') > 0 AS sees_all
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
        AND r.principal = caller.user_id))
  ORDER BY (h.name = p_name) DESC NULLS LAST, (starts_with(h.name, p_name)) DESC NULLS LAST, length(h.name), c.id
  LIMIT p_limit
$$;
ALTER FUNCTION rapport.search_customers OWNER TO rapport_search;
REVOKE ALL ON FUNCTION rapport.search_customers FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rapport.search_customers TO rapport_service;
