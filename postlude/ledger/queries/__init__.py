"""What can be read from the ledger, one file per noun. Every list is paged and has its index."""
