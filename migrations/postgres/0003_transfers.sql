-- A call that a transfer took out of another one names that.
ALTER TABLE cdr ADD COLUMN transfer_of TEXT;
