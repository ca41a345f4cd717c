"""Time: how much may be sent, and when. Pure code, told the time."""
