"""Videos -> frames: sharded, decoded by FFmpeg, kept in stores, accounted for in a ledger."""
