-- Everything here is ours alone. Times are microseconds since 1970 in UTC. A
-- version means the same on every kind of database.

-- One row per attacker: what was learnt, when it is due again, who works on it.
-- attacker_uuid is the text found in attackers.uuid.
CREATE TABLE enrich_ledger (
    attacker_uuid TEXT     NOT NULL PRIMARY KEY,
    ip            TEXT     NOT NULL, -- attackers.ip when last looked at
    addr          TEXT,              -- address the findings are about
    last_seen     BIGINT   NOT NULL, -- attackers.last_seen when last looked at
    state         SMALLINT NOT NULL, -- 0 asleep, 1 ready, 2 leased, 3 parked
    wake_at       BIGINT   NOT NULL, -- asleep: when due; leased: when the lease ends
    due_at        BIGINT   NOT NULL, -- when due, whatever the state
    ahead_at      BIGINT   NOT NULL, -- from when on being seen again makes it due early
    fence         BIGINT   NOT NULL,
    owner         TEXT     NOT NULL,
    queues        TEXT     NOT NULL, -- where it stands in enrich_queue while not leased
    verdict       SMALLINT NOT NULL, -- -1 while nothing was learnt, then 0 none to 4 malicious
    revision      BIGINT   NOT NULL,
    cached_at     BIGINT   NOT NULL,
    entries       TEXT     NOT NULL,
    decision      TEXT     NOT NULL
);

CREATE INDEX enrich_ledger_asleep ON enrich_ledger (wake_at) WHERE state = 0;

CREATE INDEX enrich_ledger_ready ON enrich_ledger (last_seen DESC, attacker_uuid, due_at) WHERE state = 1;

CREATE INDEX enrich_ledger_leased ON enrich_ledger (wake_at) WHERE state = 2;

CREATE INDEX enrich_ledger_seen ON enrich_ledger (last_seen DESC, attacker_uuid);

CREATE INDEX enrich_ledger_verdict ON enrich_ledger (verdict, last_seen DESC, attacker_uuid);

CREATE INDEX enrich_ledger_addr ON enrich_ledger (addr) WHERE addr IS NOT NULL;

-- Who waits for a provider's quota, and who for a provider that applies.
CREATE TABLE enrich_queue (
    attacker_uuid TEXT   NOT NULL,
    queue         TEXT   COLLATE "C" NOT NULL,
    last_seen     BIGINT NOT NULL,
    ranked        BIGINT NOT NULL,
    since         BIGINT NOT NULL,
    PRIMARY KEY (attacker_uuid, queue)
);

CREATE INDEX enrich_queue_order ON enrich_queue (queue, ranked DESC, last_seen DESC, attacker_uuid);

CREATE INDEX enrich_queue_longest ON enrich_queue (queue, since, attacker_uuid);

-- Addresses that findings are about beside enrich_ledger.addr: while an attacker
-- has findings from before and after its address changed.
CREATE TABLE enrich_address (
    addr          TEXT NOT NULL,
    attacker_uuid TEXT NOT NULL,
    PRIMARY KEY (addr, attacker_uuid)
);

CREATE INDEX enrich_address_attacker ON enrich_address (attacker_uuid);

-- Raw answers of providers that have no column in attacker_intel.
CREATE TABLE enrich_raw (
    attacker_uuid TEXT   NOT NULL,
    provider      TEXT   NOT NULL,
    observed_at   BIGINT NOT NULL,
    raw           TEXT   NOT NULL,
    PRIMARY KEY (attacker_uuid, provider)
);

-- Events that were saved and not yet published.
CREATE TABLE enrich_outbox (
    seq           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id      TEXT   NOT NULL UNIQUE,
    attacker_uuid TEXT   NOT NULL,
    topic         TEXT   NOT NULL,
    type          TEXT   NOT NULL,
    at            BIGINT NOT NULL,
    saved_at      BIGINT NOT NULL,
    payload       TEXT   NOT NULL
);

-- How far attackers was read: see the file sync.go. A cursor that has not begun
-- is at ''; past is at 'end' when there is nothing left to import.
CREATE TABLE enrich_cursor (
    name     TEXT   NOT NULL PRIMARY KEY,
    at       TEXT   NOT NULL,
    uuid     TEXT   NOT NULL,
    moved_at BIGINT NOT NULL
);

INSERT INTO enrich_cursor (name, at, uuid, moved_at)
VALUES ('lead', '', '', 0), ('trail', '', '', 0), ('past', '', '', 0),
    ('sweep', '', '', 0), ('ledger', '', '', 0), ('queues', '', '', 0);

-- What is left of each provider's quotas, as a document that is not read here.
CREATE TABLE enrich_quota (
    provider   TEXT   NOT NULL PRIMARY KEY,
    version    BIGINT NOT NULL,
    doc        BYTEA  NOT NULL,
    changed_at BIGINT NOT NULL
);
