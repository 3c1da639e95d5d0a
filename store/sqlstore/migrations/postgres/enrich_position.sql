-- How far an input of attackers was read. A program that does not know this table
-- works as well without it.
CREATE TABLE enrich_position (
    name       TEXT   NOT NULL PRIMARY KEY,
    doc        BYTEA  NOT NULL,
    changed_at BIGINT NOT NULL
);
