-- Under which keys numbers are hashed. The same table is in ../postgres.

-- Gateways that share the database share the keys: a gateway whose key has another fingerprint is refused.
CREATE TABLE number_key (
    id          TEXT PRIMARY KEY,           -- the part before the colon of a number's hash
    fingerprint TEXT NOT NULL               -- HMAC-SHA-256 of a constant under the key
);
