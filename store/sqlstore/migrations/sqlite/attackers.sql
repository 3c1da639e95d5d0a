-- The part of DECNET's table attackers that this module reads and writes.
-- Created only where DECNET has not created the whole of it.
CREATE TABLE attackers (
    uuid       VARCHAR  NOT NULL PRIMARY KEY,
    ip         VARCHAR  NOT NULL,
    first_seen DATETIME NOT NULL,
    last_seen  DATETIME NOT NULL,
    updated_at DATETIME NOT NULL
);

CREATE INDEX ix_attackers_updated_at ON attackers (updated_at);
