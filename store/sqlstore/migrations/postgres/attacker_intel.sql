-- DECNET's table attacker_intel, column by column, for deployments without
-- DECNET. Times are in UTC, without a zone. The cascade lets attackers be purged
-- by a bare DELETE.
CREATE TABLE attacker_intel (
    uuid                       VARCHAR   NOT NULL PRIMARY KEY,
    attacker_uuid              VARCHAR   NOT NULL UNIQUE REFERENCES attackers (uuid) ON DELETE CASCADE,
    attacker_ip                VARCHAR   NOT NULL,
    schema_version             INTEGER   NOT NULL DEFAULT 1,
    greynoise_classification   VARCHAR(32),
    greynoise_name             VARCHAR(128),
    greynoise_tags             JSON      NOT NULL DEFAULT '[]',
    greynoise_raw              JSON      NOT NULL DEFAULT '{}',
    greynoise_queried_at       TIMESTAMP,
    abuseipdb_score            INTEGER,
    abuseipdb_categories       JSON      NOT NULL DEFAULT '[]',
    abuseipdb_raw              JSON      NOT NULL DEFAULT '{}',
    abuseipdb_queried_at       TIMESTAMP,
    feodo_listed               BOOLEAN,
    feodo_malware_family       VARCHAR(64),
    feodo_raw                  JSON      NOT NULL DEFAULT '{}',
    feodo_queried_at           TIMESTAMP,
    threatfox_listed           BOOLEAN,
    threatfox_threat_types     JSON      NOT NULL DEFAULT '[]',
    threatfox_ioc_types        JSON      NOT NULL DEFAULT '[]',
    threatfox_malware_families JSON      NOT NULL DEFAULT '[]',
    threatfox_raw              JSON      NOT NULL DEFAULT '{}',
    threatfox_queried_at       TIMESTAMP,
    aggregate_verdict          VARCHAR(32),
    cached_at                  TIMESTAMP NOT NULL,
    expires_at                 TIMESTAMP NOT NULL
);

CREATE INDEX ix_attacker_intel_attacker_ip ON attacker_intel (attacker_ip);

CREATE INDEX ix_attacker_intel_aggregate_verdict ON attacker_intel (aggregate_verdict);

CREATE INDEX ix_attacker_intel_cached_at ON attacker_intel (cached_at);

CREATE INDEX ix_attacker_intel_expires_at ON attacker_intel (expires_at);
