-- A claim looks for the events of the attackers that it returns. A program that
-- does not know this index works as well with it.
CREATE INDEX enrich_outbox_attacker ON enrich_outbox (attacker_uuid, seq);
