CREATE TABLE records (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    text text COLLATE "zh-x-icu",
    number bigint,
    day date,
    moment timestamptz,
    flag boolean,
    reference uuid,
    choice text,
    list text[],
    money_minor bigint,
    money_currency text,
    attributes jsonb NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE attribute_texts (tenant_id uuid, field_id uuid, value text COLLATE "C", record_id uuid, present boolean);
CREATE TABLE attribute_numbers (tenant_id uuid, field_id uuid, value bigint, record_id uuid, present boolean);
CREATE TABLE attribute_dates (tenant_id uuid, field_id uuid, value date, record_id uuid, present boolean);
CREATE TABLE attribute_instants (tenant_id uuid, field_id uuid, value timestamptz, record_id uuid, present boolean);

-- What a careless compiler would write in place of strpos, for the sabotage test.
CREATE SCHEMA sabotage;
CREATE FUNCTION sabotage.strpos(text, text) RETURNS int LANGUAGE sql AS
    $$ SELECT CASE WHEN $1 LIKE '%' || $2 || '%' THEN 1 ELSE 0 END $$;
