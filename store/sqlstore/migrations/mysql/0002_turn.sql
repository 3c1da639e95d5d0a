-- Whose turn it is to do what only one may do at a time, and until when.
CREATE TABLE IF NOT EXISTS enrich_turn (
    name     VARCHAR(64)  NOT NULL PRIMARY KEY,
    owner    VARCHAR(255) NOT NULL,
    until_at BIGINT       NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
