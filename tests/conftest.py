"""What every test has: the cluster fixtures, and hypothesis without wall-clock deadlines (two cores are shared)."""

import hypothesis

pytest_plugins = ["kvraft.testing.plugin"]

hypothesis.settings.register_profile("kvraft", deadline=None, print_blob=True)
hypothesis.settings.load_profile("kvraft")
