-- When what identifies a customer was erased.
ALTER TABLE customers ADD COLUMN erase_time timestamptz;
