-- Entries are packed from here on. A program that cannot read them must not take
-- them for damaged, so the column has another name. Tables change outside of
-- transactions here: this may have been done and not noted.
SET @enrich = IF((SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'enrich_ledger' AND column_name = 'entries') = 0, 'DO 0', 'ALTER TABLE enrich_ledger RENAME COLUMN entries TO ledger');

PREPARE enrich FROM @enrich;

EXECUTE enrich;

DEALLOCATE PREPARE enrich;
