-- Events that a reader of the outbox beside the bus, like a webhook, has not read
-- yet. delivery is the reader, a space and the event's ID. A program that does not
-- know this table works as well beside it, for the bus alone.
CREATE TABLE enrich_delivery (
    seq      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery TEXT   NOT NULL UNIQUE,
    reader   TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    topic    TEXT   NOT NULL,
    type     TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    saved_at BIGINT NOT NULL,
    payload  TEXT   NOT NULL
);

CREATE INDEX enrich_delivery_reader ON enrich_delivery (reader, seq);
