-- ByAddress looks for networks by what the text of an address begins with. A program
-- that does not know this index works as well with it.
CREATE INDEX enrich_address_text ON enrich_address (addr text_pattern_ops);
