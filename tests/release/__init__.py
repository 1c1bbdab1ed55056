"""What stands between a commit and its wheel: the audit, the build, the bill of materials."""
