-- After a restore a tenant's numbers go on far above those that were given in the time that is lost, so that whoever was told one of
-- these is known. Who had come to `restored_after`, and no further, goes on after `restored_to`.
ALTER TABLE platform.tenant_numbers
  ADD COLUMN restored_after bigint,
  ADD COLUMN restored_to bigint;
-- After which number a tenant begins of which the log has no event.
ALTER TABLE platform.log_head ADD COLUMN tenants_begin_after bigint NOT NULL DEFAULT 0;
