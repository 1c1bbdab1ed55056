"""A name server that a test runs itself: SRV records and addresses, from a zone that the test writes."""

import socket
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self, final

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_PORT: Final = 53
_LOOK_UP_S: Final = 0.05
"""How often it looks whether it shall end."""

Zone = Mapping[tuple[str, str], Sequence[str]]
"""The records of each name and type, as a zone file has them: `{("a.example.com.", "A"): ["10.0.0.1"]}`."""


@final
class ZoneServer:
    """Answers over UDP, in a thread. As a context manager: it listens inside."""

    def __init__(self, address: str, zone: Zone) -> None:
        self._address: Final = address
        self.zone = zone
        self.refused: frozenset[str] = frozenset()
        """Names whose questions end in SERVFAIL."""
        self.asked: list[tuple[str, str]] = []
        self._stop: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._serve, name="zone server")
        self._socket: Final = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.bind((self._address, _PORT))
        self._socket.settimeout(_LOOK_UP_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                data, asker = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            self._socket.sendto(self._answer(dns.message.from_wire(data)).to_wire(), asker)

    def _answer(self, question: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(question, recursion_available=True)
        answer.flags |= dns.flags.AA
        [asked] = question.question
        name, kind = asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name, kind))
        if name in self.refused:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records := self.zone.get((name, kind)):
            answer.answer.append(dns.rrset.from_text_list(asked.name, 60, dns.rdataclass.IN, asked.rdtype, records))
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
