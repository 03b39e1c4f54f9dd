-- A call for help ('call'), or one back to who asked for it ('callback').
ALTER TABLE cdr ADD COLUMN emergency TEXT;
