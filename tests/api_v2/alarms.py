"""What /health says of a member whose disk is full, by what is asked; etcd is held to it as well."""

from typing import Final

HEALTH_WHEN_FULL: Final = {
    "/health": 503,
    "/health?exclude=NOSPACE": 200,
    "/health?exclude=CORRUPT&exclude=NO%53PACE": 200,
    "/health?exclude=": 503,
    "/health?exclude=nospace": 503,
    "/health?exclude=NOSPACE%zz": 503,
    "/health?exclude": 503,
}
BODIES: Final = {200: b'{"health":"true"}', 503: b'{"health":"false"}\n'}
