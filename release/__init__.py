"""From a commit to what is given away: a wheel that anybody can make again, what it needs, and what is known of that.

`make build`, `make audit`. Nothing here is part of the wheel.

- `build.py`: the wheel of a commit, the same bytes wherever it is made, and its bill of materials (CycloneDX).
- `audit.py`: what bandit finds in kvraft and pip-audit in the packages that it needs; a finding without a reason fails.
- `reasons.py`, `reasons.toml`: the findings that stay, each with its date and its reason.
"""
