-- Call records, their price, app users and where they are registered.
--
-- Times are BIGINT milliseconds since the Unix epoch, UTC. Amounts are BIGINT 10^-6 of the currency, rates BIGINT
-- 10^-8 per minute. The same tables, column for column, are in ../postgres.

-- Who pays. Balances and credit come with prepaid billing.
CREATE TABLE account (
    name       TEXT PRIMARY KEY,
    currency   TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
INSERT INTO account (name, currency, created_at) VALUES ('default', 'EUR', 0);

-- App users beside those of the configuration file. HA1 only (RFC 7616 §3.4.2), valid for its realm; never the password.
CREATE TABLE app_user (
    name       TEXT PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES account (name),
    realm      TEXT NOT NULL,
    ha1_md5    TEXT NOT NULL,
    ha1_sha256 TEXT NOT NULL,
    max_calls  BIGINT,                      -- NULL: the gateway's limit for users
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Numbers of app users: those they may present (in order, the first is the default) and those that ring them.
CREATE TABLE app_user_number (
    app_user TEXT NOT NULL REFERENCES app_user (name) ON DELETE CASCADE,
    purpose  TEXT NOT NULL CHECK (purpose IN ('caller_id', 'did')),
    position BIGINT NOT NULL,
    number   TEXT NOT NULL,                 -- E.164 with +
    PRIMARY KEY (app_user, purpose, number)
);
-- A DID rings one user.
CREATE UNIQUE INDEX app_user_number_did ON app_user_number (number) WHERE purpose = 'did';

-- Where devices were at the last REGISTER (RFC 3261 §10), so that a restart does not lose them. Users of the
-- configuration file register too, hence no reference to app_user.
CREATE TABLE registration (
    app_user      TEXT NOT NULL,
    contact       TEXT NOT NULL,            -- canonical Contact URI
    network       BIGINT NOT NULL,          -- index of the [[network]]
    transport     TEXT NOT NULL,
    remote        TEXT NOT NULL,            -- address:port the REGISTER came from
    local         TEXT NOT NULL,            -- our address towards it
    expires_at    BIGINT NOT NULL,
    registered_at BIGINT NOT NULL,
    call_id       TEXT NOT NULL,
    cseq          BIGINT NOT NULL,
    q             BIGINT NOT NULL,          -- thousandths
    instance      TEXT,                     -- +sip.instance (RFC 5626 §4.1)
    user_agent    TEXT,
    PRIMARY KEY (app_user, contact)
);

-- One row per call attempt, from its first record on.
CREATE TABLE cdr (
    id                 TEXT PRIMARY KEY,    -- UUIDv7: the call id everywhere
    node               TEXT NOT NULL,
    boot               BIGINT NOT NULL,     -- which run of the gateway
    seq                BIGINT NOT NULL,     -- number of the call in that run, without gaps
    revision           BIGINT NOT NULL,     -- journal sequence: of two records of a call the higher is true
    state              TEXT NOT NULL CHECK (state IN ('open', 'interim', 'final', 'recovered')),
    direction          TEXT NOT NULL,
    caller_user        TEXT,
    account            TEXT,
    caller_number      TEXT,                -- E.164; without its last four digits after the retention time
    caller_number_hash TEXT,                -- key id : HMAC-SHA-256 of the whole number
    dialled            TEXT NOT NULL,       -- as dialled
    called_user        TEXT,
    called_number      TEXT,
    called_number_hash TEXT,
    ingress_trunk      TEXT,
    egress_trunk       TEXT,
    carrier            TEXT,
    started_at         BIGINT NOT NULL,
    ringing_at         BIGINT,
    answered_at        BIGINT,
    last_media_at      BIGINT,
    released_at        BIGINT,
    pdd_ms             BIGINT,
    duration_ms        BIGINT NOT NULL,     -- answer to release
    heard_ms           BIGINT,              -- answer to last media
    end_cause          TEXT,
    sip_code           BIGINT,
    q850               BIGINT,
    released_by        TEXT,
    caller_codec       TEXT,
    callee_codec       TEXT,
    legs_omitted       BIGINT NOT NULL,
    sell_not_rated     TEXT,                -- why there is no charge; NULL with a charge, and until the end
    buy_not_rated      TEXT,
    numbers_shortened  BOOLEAN NOT NULL DEFAULT 0,
    UNIQUE (node, boot, seq)
);
CREATE INDEX cdr_started ON cdr (started_at, id);
CREATE INDEX cdr_caller_number ON cdr (caller_number_hash, started_at);
CREATE INDEX cdr_called_number ON cdr (called_number_hash, started_at);
CREATE INDEX cdr_caller_user ON cdr (caller_user, started_at);
CREATE INDEX cdr_called_user ON cdr (called_user, started_at);
CREATE INDEX cdr_egress_trunk ON cdr (egress_trunk, started_at);
CREATE INDEX cdr_ingress_trunk ON cdr (ingress_trunk, started_at);
-- What retention still has to do.
CREATE INDEX cdr_numbers_whole ON cdr (started_at) WHERE NOT numbers_shortened;

-- One row per leg: 0 is the caller's, every attempt towards a callee takes the next number. What was not measured is NULL.
CREATE TABLE cdr_leg (
    cdr_id            TEXT NOT NULL REFERENCES cdr (id) ON DELETE CASCADE,
    leg               BIGINT NOT NULL,
    revision          BIGINT NOT NULL,
    trunk             TEXT,
    app_user          TEXT,
    target            TEXT NOT NULL,        -- number or name as sent
    started_at        BIGINT NOT NULL,
    ringing_at        BIGINT,
    answered_at       BIGINT,
    ended_at          BIGINT,
    sip_code          BIGINT,
    end_cause         TEXT,
    chosen            BOOLEAN NOT NULL,     -- the attempt whose answer was taken
    packets_received  BIGINT,
    packets_sent      BIGINT,
    bytes_received    BIGINT,
    bytes_sent        BIGINT,
    packets_lost      BIGINT,
    packets_late      BIGINT,
    packets_discarded BIGINT,
    jitter_ms         REAL,
    rtt_ms            REAL,
    mos_lq            REAL,
    mos_cq            REAL,
    remote_loss       REAL,                 -- 0 to 1
    remote_jitter_ms  REAL,
    last_media_at     BIGINT,
    PRIMARY KEY (cdr_id, leg)
);

-- The price of a call per side. Append-only: rating again adds a revision.
CREATE TABLE charge (
    cdr_id              TEXT NOT NULL REFERENCES cdr (id) ON DELETE CASCADE,
    side                TEXT NOT NULL CHECK (side IN ('sell', 'buy')),
    revision            BIGINT NOT NULL,
    prefix              TEXT NOT NULL,
    rate_per_minute_e8  BIGINT NOT NULL,
    currency            TEXT NOT NULL,
    billable_ms         BIGINT NOT NULL,
    billed_s            BIGINT NOT NULL,
    amount_micros       BIGINT NOT NULL,
    PRIMARY KEY (cdr_id, side, revision)
);
