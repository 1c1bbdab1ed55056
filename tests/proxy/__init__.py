"""The proxy: its pure parts, a served one before scripted members and before a served API, and a real one."""
