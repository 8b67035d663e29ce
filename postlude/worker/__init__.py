"""What a process is to the others: its life on record, what it holds, who reaps the dead."""
