-- How many rules a tenant has is limited. A profile that was saved before counts
-- none until it is saved again.
ALTER TABLE profiles ADD COLUMN rules INTEGER NOT NULL DEFAULT 0;
