"""The command line: options, messages, exit codes. Decides nothing."""
