-- Entries are packed from here on. A program that cannot read them must not take
-- them for damaged, so the column has another name.
ALTER TABLE enrich_ledger RENAME COLUMN entries TO ledger;
