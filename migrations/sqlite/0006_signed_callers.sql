-- Who signed the calling number how surely, and what came of checking that (STIR/SHAKEN).
ALTER TABLE cdr ADD COLUMN attestation TEXT;                       -- A, B or C
ALTER TABLE cdr ADD COLUMN stir_result TEXT;                       -- passed, or why not; absent where nobody looked
