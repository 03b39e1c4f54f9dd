-- The test line of the gateway that a call was for: echo, tone, speech, busy, no-answer, digits.
ALTER TABLE cdr ADD COLUMN called_line TEXT;
