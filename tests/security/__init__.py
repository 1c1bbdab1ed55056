"""TLS, without members."""
