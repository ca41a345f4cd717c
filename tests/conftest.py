"""What all tests share."""

from hypothesis import settings

settings.register_profile("house", deadline=None)  # a timing never decides a test
settings.load_profile("house")
