-- A unit belongs to one tenant: without knowing that, the planner takes what a unit has for spread over all tenants, and sorts all
-- that there is of a manager's thousand units instead of walking an index until the page is full. And it compares each of
-- the thousand with every unit that it knows by name, which are few therefore.
CREATE STATISTICS customers_tenant_unit (dependencies) ON tenant_id, unit_id FROM customers;
ALTER TABLE customers ALTER COLUMN unit_id SET STATISTICS 10;
