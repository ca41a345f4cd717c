"""What a person reads: progress lines and summaries, as text."""
