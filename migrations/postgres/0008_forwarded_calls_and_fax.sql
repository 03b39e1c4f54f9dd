-- A call that a device of its user sent on names the call that came to that device.
ALTER TABLE cdr ADD COLUMN forwarded_of TEXT;
-- The call carried a fax or a modem: 'heard', or 't38' where a far end asked to move to T.38 and was refused.
ALTER TABLE cdr ADD COLUMN fax TEXT;
