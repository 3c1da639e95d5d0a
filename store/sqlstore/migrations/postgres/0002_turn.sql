-- Whose turn it is to do what only one may do at a time, and until when.
CREATE TABLE enrich_turn (
    name     TEXT   NOT NULL PRIMARY KEY,
    owner    TEXT   NOT NULL,
    until_at BIGINT NOT NULL
);
