-- Units, roles, users and how they sign in, under each tenant's policies; the directory of tenants, operators and the
-- keys that sign tokens, in schema `platform`.

-- The tree of organisational units.
CREATE TABLE units (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  parent_id uuid,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  CONSTRAINT units_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT units_name UNIQUE NULLS NOT DISTINCT (tenant_id, parent_id, display_name),
  CONSTRAINT units_parent FOREIGN KEY (tenant_id, parent_id) REFERENCES units (tenant_id, id)
);
CREATE INDEX units_display_name ON units (tenant_id, display_name, id);
CREATE INDEX units_create_time ON units (tenant_id, create_time, id);
SELECT rapport.protect('units');

-- Roles. What a built-in one allows stands in the program, so that an upgrade needs no change of data.
CREATE TABLE roles (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  description text NOT NULL,
  permissions jsonb NOT NULL,
  field_rights jsonb NOT NULL,
  built_in text,
  is_built_in boolean GENERATED ALWAYS AS (built_in IS NOT NULL) STORED NOT NULL,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  CONSTRAINT roles_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT roles_name UNIQUE (tenant_id, display_name),
  CONSTRAINT roles_built_in UNIQUE (tenant_id, built_in)
);
CREATE INDEX roles_create_time ON roles (tenant_id, create_time, id);
CREATE INDEX roles_is_built_in ON roles (tenant_id, is_built_in, id);
SELECT rapport.protect('roles');

-- People. `roles` has no foreign key: whoever gives a role holds its row, and whoever deletes one looks for people.
CREATE TABLE users (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  email text COLLATE "zh-x-icu" NOT NULL,
  email_key text COLLATE "C" NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  unit_id uuid,
  roles uuid[] NOT NULL,
  state text NOT NULL CONSTRAINT users_state CHECK (state IN ('invited', 'active', 'deactivated')),
  locale text NOT NULL,
  time_zone text NOT NULL,
  last_sign_in_time timestamptz,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  CONSTRAINT users_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT users_email UNIQUE (tenant_id, email_key),
  CONSTRAINT users_unit FOREIGN KEY (tenant_id, unit_id) REFERENCES units (tenant_id, id)
);
CREATE INDEX users_email_order ON users (tenant_id, email, id);
CREATE INDEX users_display_name ON users (tenant_id, display_name, id);
CREATE INDEX users_unit ON users (tenant_id, unit_id);
CREATE INDEX users_create_time ON users (tenant_id, create_time, id);
SELECT rapport.protect('users');

-- Passwords (Argon2id, as PHC strings) with the failed attempts that count towards a lock-out: apart from users, so that
-- what reads users never has them in hand.
CREATE TABLE credentials (
  tenant_id uuid NOT NULL,
  user_id uuid NOT NULL,
  hash text NOT NULL,
  change_time timestamptz NOT NULL,
  failures timestamptz[] NOT NULL,
  locked_until timestamptz,
  CONSTRAINT credentials_user PRIMARY KEY (tenant_id, user_id),
  CONSTRAINT credentials_of FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);
SELECT rapport.protect('credentials');

-- The open invitation of a user: one at most. Secrets of all kinds are kept as the hex of their SHA-256.
CREATE TABLE invitations (
  tenant_id uuid NOT NULL,
  user_id uuid NOT NULL,
  id uuid NOT NULL,
  digest text NOT NULL,
  expire_time timestamptz NOT NULL,
  CONSTRAINT invitations_user PRIMARY KEY (tenant_id, user_id),
  CONSTRAINT invitations_id UNIQUE (tenant_id, id),
  CONSTRAINT invitations_of FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);
SELECT rapport.protect('invitations');

CREATE TABLE sessions (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  digest text NOT NULL,
  user_agent text NOT NULL,
  ip_address text NOT NULL,
  create_time timestamptz NOT NULL,
  last_use_time timestamptz NOT NULL,
  CONSTRAINT sessions_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT sessions_of FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);
CREATE INDEX sessions_user ON sessions (tenant_id, user_id);
SELECT rapport.protect('sessions');

CREATE TABLE api_keys (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  version bigint NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  permissions jsonb NOT NULL,
  ceiling jsonb NOT NULL,
  user_id uuid NOT NULL,
  prefix text NOT NULL,
  digest text NOT NULL,
  expire_time timestamptz,
  revoke_time timestamptz,
  last_use_time timestamptz,
  create_time timestamptz NOT NULL,
  CONSTRAINT api_keys_id PRIMARY KEY (tenant_id, id),
  CONSTRAINT api_keys_of FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);
CREATE INDEX api_keys_display_name ON api_keys (tenant_id, display_name, id);
CREATE INDEX api_keys_create_time ON api_keys (tenant_id, create_time, id);
CREATE INDEX api_keys_user ON api_keys (tenant_id, user_id, id);
SELECT rapport.protect('api_keys');

-- The directory of tenants.
CREATE TABLE platform.directory (
  id uuid NOT NULL,
  version bigint NOT NULL,
  slug text COLLATE "C" NOT NULL,
  display_name text COLLATE "zh-x-icu" NOT NULL,
  state text NOT NULL
    CONSTRAINT directory_state CHECK (state IN ('active', 'read_only', 'moving', 'suspended', 'deleted')),
  generation bigint NOT NULL,
  cell text NOT NULL,
  region text NOT NULL,
  locale text NOT NULL,
  time_zone text NOT NULL,
  phone_region text NOT NULL,
  base_currency text NOT NULL,
  create_time timestamptz NOT NULL,
  update_time timestamptz NOT NULL,
  delete_time timestamptz,
  CONSTRAINT directory_id PRIMARY KEY (id),
  CONSTRAINT directory_slug UNIQUE (slug)
);
CREATE INDEX directory_display_name ON platform.directory (display_name, id);
CREATE INDEX directory_create_time ON platform.directory (create_time, id);

-- Who runs the installation, and the keys by which they call.
CREATE TABLE platform.operators (
  id uuid NOT NULL PRIMARY KEY,
  display_name text NOT NULL,
  create_time timestamptz NOT NULL
);
CREATE TABLE platform.operator_keys (
  id uuid NOT NULL PRIMARY KEY,
  operator_id uuid NOT NULL REFERENCES platform.operators (id),
  digest text NOT NULL,
  create_time timestamptz NOT NULL,
  revoke_time timestamptz
);

-- The Ed25519 keys that sign tokens. Two keys cannot begin at the same time, nor can two be without a successor.
CREATE TABLE platform.signing_keys (
  id text NOT NULL PRIMARY KEY,
  secret bytea NOT NULL CONSTRAINT signing_keys_secret CHECK (length(secret) = 32),
  public_key bytea NOT NULL CONSTRAINT signing_keys_public_key CHECK (length(public_key) = 32),
  sign_from timestamptz NOT NULL,
  expire_time timestamptz
);
CREATE UNIQUE INDEX signing_keys_newest ON platform.signing_keys ((expire_time IS NULL)) WHERE expire_time IS NULL;

-- The operators' plane is a tenant of its own, whose records are the tenants: so reading, lists, etags and repeated
-- requests work there as everywhere. Nobody signs in to it, and no other tenant's transaction sees the directory.
INSERT INTO platform.tenants (id, state, generation) VALUES ('00000000-0000-8000-8000-6f7065726174', 'active', 1);

CREATE VIEW rapport.directory AS
  SELECT '00000000-0000-8000-8000-6f7065726174'::uuid AS tenant_id, id, version, slug, display_name, state, generation,
    cell, region, locale, time_zone, phone_region, base_currency, create_time, update_time, delete_time
  FROM platform.directory
  WHERE (SELECT current_setting('rapport.tenant')::uuid) = '00000000-0000-8000-8000-6f7065726174';

-- What `rapport.enter` and `rapport.emit` look at follows the directory, in the transaction that changes it.
CREATE FUNCTION rapport.follow_directory() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO platform.tenants (id, state, generation, cell, region)
  VALUES (new.id, new.state, new.generation, new.cell, new.region)
  ON CONFLICT (id) DO UPDATE SET state = excluded.state, generation = excluded.generation, cell = excluded.cell,
    region = excluded.region;
  RETURN NULL;
END $$;
CREATE TRIGGER follow AFTER INSERT OR UPDATE ON platform.directory
  FOR EACH ROW EXECUTE FUNCTION rapport.follow_directory();

-- Enters this transaction's tenant in the directory: only from within, so that the tenant and what it begins with are one
-- transaction.
CREATE FUNCTION rapport.register_tenant(entry json) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (entry ->> 'id')::uuid IS DISTINCT FROM current_setting('rapport.tenant')::uuid THEN
    RAISE EXCEPTION 'a tenant is registered in a transaction of its own';
  END IF;
  INSERT INTO platform.directory SELECT * FROM json_populate_record(NULL::platform.directory, entry);
END $$;

-- What its own people may know of this transaction's tenant.
CREATE FUNCTION rapport.tenant_profile(
  OUT slug text, OUT state text, OUT generation bigint, OUT locale text, OUT time_zone text, OUT phone_region text
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT slug, state, generation, locale, time_zone, phone_region FROM platform.directory
  WHERE id = current_setting('rapport.tenant')::uuid
$$;

DO $$
DECLARE
  t regclass;
  f regprocedure;
BEGIN
  FOREACH t IN ARRAY ARRAY['platform.directory', 'platform.operators', 'platform.operator_keys', 'platform.signing_keys',
    'rapport.directory']::regclass[] LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO rapport_platform', t);
  END LOOP;
  FOREACH f IN ARRAY ARRAY['rapport.follow_directory()', 'rapport.register_tenant(json)', 'rapport.tenant_profile()']::regprocedure[] LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO rapport_platform', f);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
  END LOOP;
END $$;
GRANT SELECT, UPDATE ON rapport.directory TO rapport_service;
GRANT EXECUTE ON FUNCTION rapport.register_tenant(json), rapport.tenant_profile() TO rapport_service;

-- People of a tenant that is only read for now sign in too, to read: sessions, failed attempts and times of use are then
-- written by the platform's role, which the same policies bind to one tenant.
GRANT USAGE ON SCHEMA public TO rapport_platform;
GRANT SELECT, UPDATE (last_sign_in_time) ON users TO rapport_platform;
GRANT SELECT, UPDATE (hash, failures, locked_until) ON credentials TO rapport_platform;
GRANT SELECT, INSERT, DELETE, UPDATE (ip_address, last_use_time) ON sessions TO rapport_platform;
GRANT SELECT, UPDATE (last_use_time) ON api_keys TO rapport_platform;
