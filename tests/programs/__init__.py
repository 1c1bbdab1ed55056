"""Real programs that live on the v2 API, run as their users run them. `make conformance` runs what is here."""
