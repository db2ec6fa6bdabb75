"""Hypothesis without a deadline: a busy machine is no defect."""

from hypothesis import settings

settings.register_profile("domain", deadline=None)
settings.load_profile("domain")
