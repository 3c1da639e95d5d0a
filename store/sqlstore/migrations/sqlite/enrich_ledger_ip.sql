-- A change in a list looks for the attackers that it affects. A program that does
-- not know this index works as well with it.
CREATE INDEX enrich_ledger_ip ON enrich_ledger (ip);
