-- The part of DECNET's table attackers that this module reads and writes.
-- Created only where DECNET has not created the whole of it.
CREATE TABLE IF NOT EXISTS attackers (
    uuid       VARCHAR(255) NOT NULL PRIMARY KEY,
    ip         VARCHAR(255) NOT NULL,
    first_seen DATETIME(6)  NOT NULL,
    last_seen  DATETIME(6)  NOT NULL,
    updated_at DATETIME(6)  NOT NULL,
    KEY ix_attackers_updated_at (updated_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
