"""The wire: requests out, outcomes in."""
