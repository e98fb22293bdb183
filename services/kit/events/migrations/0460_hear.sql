-- Moves a watermark on, or refuses the transaction when it is not where the caller thinks: somebody else heard these events
-- (RP007). So the caller may commit without waiting for an answer first.
CREATE OR REPLACE FUNCTION rapport.hear(p_producer text, p_part smallint, p_from bigint, p_to bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE platform.watermarks SET number = p_to
  WHERE producer = p_producer AND part = p_part AND number = p_from;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'somebody else heard these events' USING ERRCODE = 'RP007';
  END IF;
  RETURN true;
END $$;
