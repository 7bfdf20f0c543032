"""The gate for anything on disk: what ``slipway scan`` reads and runs in limited child processes."""
