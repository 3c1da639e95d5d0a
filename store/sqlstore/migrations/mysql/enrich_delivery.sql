-- Events that a reader of the outbox beside the bus, like a webhook, has not read
-- yet. delivery is the reader, a space and the event's ID. A program that does not
-- know this table works as well beside it, for the bus alone.
CREATE TABLE IF NOT EXISTS enrich_delivery (
    seq      BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    delivery VARCHAR(320) NOT NULL UNIQUE,
    reader   VARCHAR(64)  NOT NULL,
    event_id VARCHAR(255) NOT NULL,
    topic    TEXT         NOT NULL,
    type     TEXT         NOT NULL,
    at       BIGINT       NOT NULL,
    saved_at BIGINT       NOT NULL,
    payload  LONGTEXT     NOT NULL,
    KEY enrich_delivery_reader (reader, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
