"""The annotation JSON of the reference: written from lists and ledger, merged, read as samples."""
