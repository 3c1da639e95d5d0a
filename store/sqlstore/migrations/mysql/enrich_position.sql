-- How far an input of attackers was read. A program that does not know this table
-- works as well without it.
CREATE TABLE IF NOT EXISTS enrich_position (
    name       VARCHAR(255) NOT NULL PRIMARY KEY,
    doc        LONGBLOB     NOT NULL,
    changed_at BIGINT       NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
