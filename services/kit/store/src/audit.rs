//! What must be true of every service's database, read off PostgreSQL's own catalogue: a table that escapes row-level
//! security, or a door that stands open, is found by a test and not by an intruder. Each service's tests run this with what
//! that service adds to the kit's own.
use std::collections::BTreeMap;

use rapport_filter::Source;
use rapport_kernel::Error;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{Resource, error::database, fields::Definition};

/// The kit's own tables in schema `platform`.
const PLATFORM: [&str; 4] = ["answers", "field_indexing", "outbox", "tenants"];

/// The kit's own functions that run with more rights than their caller has.
const DEFINERS: [&str; 11] = [
    "answer",
    "change_fields",
    "emit",
    "enter",
    "fields_version",
    "index_field",
    "index_moved",
    "learn",
    "react",
    "refresh_statistics",
    "taken",
];

/// What a service's database may have; everything else is a fault.
#[derive(Clone, Debug)]
pub struct Audit {
    platform: Vec<&'static str>,
    definers: Vec<&'static str>,
    /// Name, owner column and unit column of the resources whose records have owners, by table.
    owned: BTreeMap<&'static str, (&'static str, &'static str, Option<&'static str>)>,
    /// Tables with the columns that lists are sorted by.
    sorted: Vec<(&'static str, &'static str)>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            platform: PLATFORM.into(),
            definers: DEFINERS.into(),
            owned: BTreeMap::new(),
            sorted: Vec::new(),
        }
        .resource::<Definition>()
    }
}

impl Audit {
    /// Expects what the store relies on of a resource: the policies of records with owners, an index by owner, and of each
    /// column that lists are sorted by that it is never null and has an index `(tenant_id, column, id)`.
    #[must_use]
    pub fn resource<R: Resource>(mut self) -> Self {
        self.sorted.extend(R::fields().iter().filter(|field| field.sortable).filter_map(|field| {
            match field.source {
                Source::Column(column) => Some((R::TABLE, column)),
                _ => None,
            }
        }));
        if let Some(owner) = R::OWNER {
            self.owned.insert(R::TABLE, (R::NAME, owner, R::UNIT));
        }
        self
    }

    /// Allows a table of schema `platform`.
    #[must_use]
    pub fn platform(mut self, table: &'static str) -> Self {
        self.platform.push(table);
        self
    }

    /// Allows a SECURITY DEFINER function of schema `rapport`, by its name.
    #[must_use]
    pub fn definer(mut self, function: &'static str) -> Self {
        self.definers.push(function);
        self
    }

    /// Everything that is wrong, in words; empty when nothing is. `owner` is connected as the owner of the schema.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn faults(&self, owner: &mut PgConnection) -> Result<Vec<String>, Error> {
        let mut faults = Vec::new();
        for (what, sql) in RULES {
            let found: Vec<String> = sqlx::query_scalar(*sql)
                .bind(&self.platform)
                .bind(&self.definers)
                .fetch_all(&mut *owner)
                .await
                .map_err(database)?;
            faults.extend(found.into_iter().map(|name| format!("{name} {what}")));
        }
        self.indexes(owner, &mut faults).await?;
        self.policies(owner, &mut faults).await?;
        Ok(faults)
    }

    /// Looks for what lists are served by.
    async fn indexes(&self, owner: &mut PgConnection, faults: &mut Vec<String>) -> Result<(), Error> {
        let sorted = self.sorted.iter().map(|(table, column)| (*table, *column, true));
        let owned = self.owned.iter().flat_map(|(table, (_, owner, unit))| {
            [Some(*owner), *unit].into_iter().flatten().map(|column| (*table, column, false))
        });
        for (table, column, is_order) in sorted.chain(owned) {
            let (not_null, indexed): (bool, bool) = sqlx::query_as(INDEX)
                .bind(table)
                .bind(column)
                .bind(is_order)
                .fetch_one(&mut *owner)
                .await
                .map_err(database)?;
            if is_order && !not_null {
                faults.push(format!("{table}.{column} is sorted by, but may be null"));
            }
            if !indexed {
                faults.push(format!(
                    "{table}.{column} is sorted or scoped by, but has no index that tenant_id leads"
                ));
            }
        }
        Ok(())
    }

    /// Compares each table's policies with those that `rapport.protect` makes now.
    async fn policies(&self, owner: &mut PgConnection, faults: &mut Vec<String>) -> Result<(), Error> {
        let mut tx = owner.begin().await.map_err(database)?;
        tx.execute(PROBES).await.map_err(database)?;
        let policies: Vec<(String, String)> =
            sqlx::query_as(POLICIES).fetch_all(&mut *tx).await.map_err(database)?;
        tx.rollback().await.map_err(database)?;
        let policies: BTreeMap<_, _> = policies.into_iter().collect();
        let of = |table: &str| policies.get(table).cloned().unwrap_or_default();
        for (table, policy) in policies.iter().filter(|(table, _)| !table.starts_with("probe_")) {
            let expected = match self.owned.get(table.as_str()) {
                Some((resource, owner, None)) => {
                    of("probe_owned").replace("probe_resource", resource).replace("probe_owner", owner)
                }
                Some((resource, owner, Some(unit))) => of("probe_of_unit")
                    .replace("probe_resource", resource)
                    .replace("probe_owner", owner)
                    .replace("probe_unit", unit),
                None => of("probe_plain"),
            };
            let probes = ["probe_owned", "probe_of_unit", "probe_plain"];
            if *policy != probes.iter().fold(expected, |text, probe| text.replace(probe, table)) {
                faults.push(format!("{table} has other policies than rapport.protect makes: {policy}"));
            }
        }
        Ok(())
    }
}

/// Whether a column is never null, and whether an index begins with tenant and column and, for an order, goes on with the id
/// or is unique.
const INDEX: &str = "
    SELECT coalesce(bool_or(a.attnotnull), false), EXISTS (
      SELECT FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisvalid
        AND pg_get_indexdef(i.indexrelid, 1, true) = 'tenant_id' AND pg_get_indexdef(i.indexrelid, 2, true) = quote_ident($2)
        AND (NOT $3 OR $2 = 'id' OR i.indisunique OR pg_get_indexdef(i.indexrelid, 3, true) = 'id'))
    FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attname = $2";

/// Tables to compare with; they go with the transaction.
const PROBES: &str = "CREATE TABLE public.probe_plain (tenant_id uuid, id uuid);
    SELECT rapport.protect('public.probe_plain');
    CREATE TABLE public.probe_owned (tenant_id uuid, id uuid, probe_owner uuid);
    SELECT rapport.protect('public.probe_owned', resource => 'probe_resource', owner => 'probe_owner');
    CREATE TABLE public.probe_of_unit (tenant_id uuid, id uuid, probe_owner uuid, probe_unit uuid);
    SELECT rapport.protect('public.probe_of_unit', resource => 'probe_resource', owner => 'probe_owner', unit => 'probe_unit')";

/// Each tenant table's policies in one text, without blanks, which differ with the length of names.
const POLICIES: &str = r"
    SELECT c.relname::text, coalesce(regexp_replace(string_agg(concat_ws(' ', p.polname, p.polcmd, p.polpermissive,
        p.polroles::regrole[], pg_get_expr(p.polqual, c.oid), 'check', pg_get_expr(p.polwithcheck, c.oid)), '; '
        ORDER BY p.polname) FILTER (WHERE p.oid IS NOT NULL), '\s', '', 'g'), 'none')
    FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    GROUP BY c.relname";

/// What is wrong, and the statement that finds it. `$1` are the tables of schema `platform`, `$2` the definers.
const RULES: &[(&str, &str)] = &[
    (
        "has no row-level security, or its owner escapes it (FORCE)",
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    ),
    (
        "has no primary key",
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p')",
    ),
    (
        "is unique over more than one tenant: tenant_id does not lead",
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND a.attname IS DISTINCT FROM 'tenant_id'",
    ),
    (
        "refers to other tenants' rows: tenant_id does not lead",
        "SELECT k.conname::text FROM pg_constraint k
         JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
         JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
         WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace
           AND NOT (a.attname = 'tenant_id' AND f.attname = 'tenant_id')",
    ),
    (
        "can be without a tenant, or its tenant is not a uuid",
        "SELECT c.relname::text FROM pg_class c
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND NOT coalesce(a.attnotnull AND a.atttypid = 'uuid'::regtype, false)",
    ),
    (
        "is a view, a foreign table or the like, which no policy covers",
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('m', 'f', 'v')
           AND NOT (c.relkind = 'v' AND coalesce('security_invoker=true' = ANY(c.reloptions), false))
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')",
    ),
    (
        "is a table outside the schemas public and platform",
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname NOT IN ('public', 'platform', 'information_schema')
           AND n.nspname NOT LIKE 'pg\\_%' AND c.oid::regclass::text <> 'rapport.migrations'",
    ),
    (
        "spans tenants, but is not on the list",
        "SELECT c.oid::regclass::text FROM pg_class c
         WHERE c.relnamespace = 'platform'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
           AND c.relname <> ALL($1)",
    ),
    (
        "is on the list of what spans tenants, but does not exist",
        "SELECT name FROM unnest($1::text[]) AS name
         WHERE to_regclass('platform.' || quote_ident(name)) IS NULL",
    ),
    (
        "spans tenants, but does not belong to rapport_platform, or can be reached by rapport_service",
        "SELECT c.oid::regclass::text FROM pg_class c
         WHERE c.relnamespace = 'platform'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
           AND (c.relowner <> 'rapport_platform'::regrole
             OR has_schema_privilege('rapport_service', 'platform', 'USAGE')
             OR CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('rapport_service', c.oid, 'USAGE, SELECT, UPDATE')
               ELSE has_table_privilege('rapport_service', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') END)",
    ),
    (
        "may do more to tenants' tables than reading and writing rows",
        "SELECT 'rapport_service' WHERE (EXISTS (
           SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
             AND has_table_privilege('rapport_service', c.oid, 'TRUNCATE, REFERENCES, TRIGGER'))
           OR has_schema_privilege('rapport_service', 'public', 'CREATE')
           OR has_schema_privilege('rapport_service', 'rapport', 'CREATE')
           OR has_database_privilege('rapport_service', current_database(), 'CREATE, TEMPORARY'))",
    ),
    (
        "runs with more rights than its caller (SECURITY DEFINER), but is not on the list",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND NOT (n.nspname = 'rapport' AND p.proname = ANY($2))",
    ),
    (
        "runs with more rights than its caller, but without a search path of its own that ends in pg_temp",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c ~ '^search_path=(pg_catalog|public), pg_temp$')
           AND NOT (n.nspname = 'rapport' AND p.proname IN ('enter', 'emit', 'answer') AND p.proowner = 'rapport_platform'::regrole)",
    ),
    (
        "can be executed by everybody",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE (p.prosecdef OR n.nspname = 'rapport') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)",
    ),
    (
        // Statistics are counted by the owner of the tables and by nobody else.
        "runs as a superuser, as the owner of the schema or with BYPASSRLS",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         JOIN pg_roles r ON r.oid = p.proowner
         WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND (r.rolsuper OR r.rolbypassrls OR r.rolname NOT IN ('rapport_platform', 'rapport_search')
             AND (n.nspname, p.proname, r.rolname) <> ('rapport', 'refresh_statistics', 'rapport_owner'))",
    ),
];
