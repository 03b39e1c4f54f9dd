-- How a leg sounded, in more detail: loss after repair, bursts, the far end's own view, and audio that was not heard.
-- The same columns are in ../sqlite.

ALTER TABLE cdr_leg ADD COLUMN packets_unrepaired BIGINT;          -- missed by the listener after repair
ALTER TABLE cdr_leg ADD COLUMN burst_ratio DOUBLE PRECISION;       -- mean run of missed packets over what chance would give, at least 1
ALTER TABLE cdr_leg ADD COLUMN burst_density DOUBLE PRECISION;     -- 0 to 1, RFC 3611 with Gmin 16
ALTER TABLE cdr_leg ADD COLUMN gap_density DOUBLE PRECISION;
ALTER TABLE cdr_leg ADD COLUMN burst_ms DOUBLE PRECISION;          -- mean lengths
ALTER TABLE cdr_leg ADD COLUMN gap_ms DOUBLE PRECISION;
ALTER TABLE cdr_leg ADD COLUMN remote_discard DOUBLE PRECISION;    -- 0 to 1; this and the next two by RTCP XR
ALTER TABLE cdr_leg ADD COLUMN remote_mos_lq DOUBLE PRECISION;
ALTER TABLE cdr_leg ADD COLUMN remote_mos_cq DOUBLE PRECISION;
ALTER TABLE cdr_leg ADD COLUMN fault TEXT;                         -- missing or silent, while the other leg was heard
ALTER TABLE cdr_leg ADD COLUMN fault_ms BIGINT;
