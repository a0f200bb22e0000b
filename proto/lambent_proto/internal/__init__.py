"""The internal control contract, `lambent.internal.v1`: spoken between Lambent's own parts only."""
