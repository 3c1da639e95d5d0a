-- Everything here is ours alone. Times are microseconds since 1970 in UTC. A
-- version means the same on every kind of database. No statement is in
-- the way of itself when it is run again: each ends the transaction.

-- One row per attacker: what was learnt, when it is due again, who works on it.
-- attacker_uuid is the text found in attackers.uuid, and gets its collation.
CREATE TABLE IF NOT EXISTS enrich_ledger (
    attacker_uuid VARCHAR(64) NOT NULL PRIMARY KEY,
    ip            TEXT        NOT NULL, -- attackers.ip when last looked at
    addr          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin, -- address the findings are about
    last_seen     BIGINT      NOT NULL, -- attackers.last_seen when last looked at
    state         SMALLINT    NOT NULL, -- 0 asleep, 1 ready, 2 leased, 3 parked
    wake_at       BIGINT      NOT NULL, -- asleep: when due; leased: when the lease ends
    due_at        BIGINT      NOT NULL, -- when due, whatever the state
    ahead_at      BIGINT      NOT NULL, -- from when on being seen again makes it due early
    fence         BIGINT      NOT NULL,
    owner         TEXT        NOT NULL,
    queues        TEXT        NOT NULL, -- where it stands in enrich_queue while not leased
    verdict       SMALLINT    NOT NULL, -- -1 while nothing was learnt, then 0 none to 4 malicious
    revision      BIGINT      NOT NULL,
    cached_at     BIGINT      NOT NULL,
    entries       LONGTEXT    NOT NULL,
    decision      LONGTEXT    NOT NULL,
    KEY enrich_ledger_wake (state, wake_at),
    KEY enrich_ledger_ready (state, last_seen DESC, attacker_uuid, due_at),
    KEY enrich_ledger_seen (last_seen DESC, attacker_uuid),
    KEY enrich_ledger_verdict (verdict, last_seen DESC, attacker_uuid),
    KEY enrich_ledger_addr (addr)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Who waits for a provider's quota, and who for a provider that applies.
CREATE TABLE IF NOT EXISTS enrich_queue (
    attacker_uuid VARCHAR(64)  NOT NULL,
    queue         VARCHAR(1024) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    last_seen     BIGINT       NOT NULL,
    ranked        BIGINT       NOT NULL,
    since         BIGINT       NOT NULL,
    PRIMARY KEY (attacker_uuid, queue),
    KEY enrich_queue_order (queue, ranked DESC, last_seen DESC, attacker_uuid),
    KEY enrich_queue_longest (queue, since, attacker_uuid)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Addresses that findings are about beside enrich_ledger.addr: while an attacker
-- has findings from before and after its address changed.
CREATE TABLE IF NOT EXISTS enrich_address (
    addr          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attacker_uuid VARCHAR(64) NOT NULL,
    PRIMARY KEY (addr, attacker_uuid),
    KEY enrich_address_attacker (attacker_uuid)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Raw answers of providers that have no column in attacker_intel.
CREATE TABLE IF NOT EXISTS enrich_raw (
    attacker_uuid VARCHAR(64)  NOT NULL,
    provider      VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    observed_at   BIGINT       NOT NULL,
    raw           LONGTEXT     NOT NULL,
    PRIMARY KEY (attacker_uuid, provider)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Events that were saved and not yet published.
CREATE TABLE IF NOT EXISTS enrich_outbox (
    seq           BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    event_id      VARCHAR(255) NOT NULL UNIQUE,
    attacker_uuid VARCHAR(64)  NOT NULL,
    topic         TEXT         NOT NULL,
    type          TEXT         NOT NULL,
    at            BIGINT       NOT NULL,
    saved_at      BIGINT       NOT NULL,
    payload       LONGTEXT     NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far attackers was read: see the file sync.go. A cursor that has not begun
-- is at ''; past is at 'end' when there is nothing left to import.
CREATE TABLE IF NOT EXISTS enrich_cursor (
    name     VARCHAR(64)  NOT NULL PRIMARY KEY,
    at       VARCHAR(64)  NOT NULL,
    uuid     VARCHAR(255) NOT NULL,
    moved_at BIGINT       NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT IGNORE INTO enrich_cursor (name, at, uuid, moved_at)
VALUES ('lead', '', '', 0), ('trail', '', '', 0), ('past', '', '', 0),
    ('sweep', '', '', 0), ('ledger', '', '', 0), ('queues', '', '', 0);

-- What is left of each provider's quotas, as a document that is not read here.
CREATE TABLE IF NOT EXISTS enrich_quota (
    provider   VARCHAR(255) NOT NULL PRIMARY KEY,
    version    BIGINT       NOT NULL,
    doc        LONGBLOB     NOT NULL,
    changed_at BIGINT       NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
