-- Which of the numbered files were run, and when: in microseconds since 1970.
CREATE TABLE enrich_migrations (
    version    INTEGER NOT NULL PRIMARY KEY,
    applied_at BIGINT  NOT NULL
);
