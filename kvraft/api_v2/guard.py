"""Whether somebody may do what he asks for: who he is, what his roles allow, and that this is so when it is done.

The rules are etcd's (v3.4 api/v2http/client_auth.go). While auth is off nobody is asked for anything, and nothing here
costs more than a look at one flag.

What is judged may change while a request is on its way. So a command carries the revision of the accounts by which it
was judged, and the keyspace refuses it where others are in force (`Accounts.admitted`): then it is judged again here.
"""

import enum
from collections.abc import Callable
from typing import Final, final

from kvraft import clock, logs
from kvraft.api_v2 import errors
from kvraft.api_v2.asker import Asker
from kvraft.api_v2.backend import Abandon, Backend, Written
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.settings import AuthSettings
from kvraft.keyspace.account_records import ROOT, Role
from kvraft.keyspace.accounts import GUEST as GUEST_ROLE
from kvraft.keyspace.accounts import Accounts, AccountsChanged
from kvraft.keyspace.commands import Authorized, Command
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.security.attempts import Attempts
from kvraft.security.logins import GUEST, Login, RememberedLogins, basic
from kvraft.security.passwords import Passwords
from kvraft.security.rights import Rights

log = logs.get(__name__)

JUDGEMENTS_MAX: Final = 16
"""How often a request is judged anew because users or roles change under it, before it is given up."""
STANDINGS_MAX: Final = 10_000
"""Different header lines, as many as logins are remembered; forgotten all at once when there are more."""
DENIED: Final = EtcdError(ErrorCode.UNAUTHORIZED, b"Insufficient credentials")
BUSY: Final = EtcdError(ErrorCode.RAFT_INTERNAL, b"etcdserver: too many requests")
"""So many passwords wait to be compared that one more would wait for too long."""
RESTLESS: Final = EtcdError(ErrorCode.RAFT_INTERNAL, b"etcdserver: users and roles change too fast")
_NO_RIGHTS: Final = Rights()


class Unknown(enum.Enum):
    """Why nobody knows who asks."""

    WRONG = "wrong"
    """No such user, another password, or no Basic header."""
    BUSY = "busy"
    """Nobody has looked, or could."""


@final
class Standing:
    """Somebody and what he may do, by the accounts of one revision."""

    __slots__ = ("_rights", "login")

    def __init__(self, login: Login, rights: Rights) -> None:
        self.login: Final = login
        self._rights: Final = rights

    def may(self, key: bytes, *, write: bool, recursive: bool) -> bool:
        """Whether he may read or write a key; `key` is what stands behind /v2/keys."""
        # etcd does not ask whether the guest's request is recursive.
        return self._rights.allows(key, write=write, recursive=recursive and self.login.name != "")

    @property
    def is_root(self) -> bool:
        """Whether he may do everything."""
        return self._rights.is_root


Send = Callable[[Command, Callable[[Written | EtcdError], None]], Abandon]
Identified = Callable[[Login | Unknown], None]


@final
class Guard:
    """Judges the requests of one member."""

    def __init__(self, backend: Backend, settings: AuthSettings, passwords: Passwords) -> None:
        self._backend = backend
        self._settings = settings
        self._passwords = passwords
        self._remembered = RememberedLogins()
        """By Authorization headers, which cost a hash each."""
        self._by_lines = RememberedLogins()
        """By all header lines, which cost nothing: in the other they could push out what does."""
        self._attempts = Attempts(settings.failures_max)
        self._comparing: dict[tuple[bytes, bytes | None], list[Callable[[bool | None], None]]] = {}
        """Headers that are being compared with a hash, and who waits for it: one client's many connections cost one."""
        self._rights: dict[str, Rights] = {}
        """What users may do, by the accounts of `_revision`."""
        self._standings: dict[bytes, Standing] = {}
        """Who is known by his header lines and what he may do, by the same accounts: forgotten with their change."""
        self._revision = 0
        self._was_on = False

    @property
    def accounts(self) -> Accounts:
        """Users and roles as this member has applied them."""
        return self._backend.keyspace.accounts

    @property
    def is_on(self) -> bool:
        """Whether requests need a right."""
        return self._backend.keyspace.accounts.enabled

    def tell_what_is_open(self) -> None:
        """Say in the log, now and whenever auth is turned on, what is open where an operator could close it.

        Also get ready for passwords, which come then.
        """
        self._backend.watchers.on_rights_changed.append(self._tell)
        self._tell()

    def _tell(self) -> None:
        was_on, self._was_on = self._was_on, self.is_on
        if was_on or not self._was_on:
            return
        self._passwords.get_ready()
        guest = self.accounts.roles.get(GUEST_ROLE)
        if guest is not None and not guest.permissions.is_empty and not self._settings.denies_guests:
            log.warning(
                "auth is on, and open to whoever gives no user: change the role guest, or use --auth-guest=none",
                read=",".join(guest.permissions.read or ()),
                write=",".join(guest.permissions.write or ()),
            )
        if not self._settings.failures_max:
            log.info("auth is on, and any number of wrong passwords is compared: see --auth-failures-max")

    # -- who asks -----------------------------------------------------------------------------------------------

    def standing(self, exchange: Exchange) -> Standing | None:
        """Who asks and what he may do, if he was found by these very lines since users or roles last changed.

        None says nothing about him: see `identify`.
        """
        if self._backend.keyspace.accounts.revision != self._revision:
            self._renew()
        return self._standings.get(exchange.token())

    def standing_of(self, login: Login) -> Standing:
        """What somebody who was found may do now."""
        return Standing(login, self._rights_of(login))

    def identify(self, exchange: Exchange, done: Identified) -> None:
        """Find out who asks; `done` is called now if that is remembered or plain, and later otherwise.

        Not at all if he has gone.
        Who sends the same header lines again is known by their digest, without a look at what they say.
        """
        token = exchange.token()
        known = self._by_lines.find(token) if token else None
        if known is not None and self._is_current(known):
            if len(self._standings) >= STANDINGS_MAX:
                self._standings.clear()
            self._standings[token] = self.standing_of(known)
            done(known)
            return
        asker = exchange.asker()
        if asker is None:
            return

        def identified(login: Login | Unknown) -> None:
            # Only who has proved it by these very lines: a certificate belongs to a connection.
            if token and isinstance(login, Login) and login.password_hash:
                self._by_lines.remember(token, login)
            try:
                done(login)
            except Exception:
                exchange.abort()  # its client must not wait for an answer that cannot be made
                raise

        self.ask_who(asker, identified)

    def ask_who(self, asker: Asker, done: Identified) -> None:
        """Find out who this is by what he says."""
        header = asker.authorization
        if not header:
            done(self._by_certificate(asker))
            return
        digest = self._remembered.digest(header)
        known = self._remembered.find(digest)
        if known is not None:
            if self._is_current(known):
                done(known)
                return
            self._remembered.forget(digest)
        login = basic(header)
        if login is None:
            log.warning("login refused", address=asker.address, error="malformed Authorization header")
            done(Unknown.WRONG)
            return
        self._compare(digest, login, asker, done)

    def _by_certificate(self, asker: Asker) -> Login:
        """The user whose name the client's certificate has, if there is one, else the guest."""
        if self._settings.client_cert_auth and asker.common_name in self.accounts.users:
            return Login(asker.common_name)
        return GUEST

    def _compare(self, digest: bytes, login: tuple[bytes, bytes], asker: Asker, done: Identified) -> None:
        name, password = login
        attempts, address = self._attempts, asker.address
        if attempts.is_over(name, address, clock.monotonic_ms()):
            done(Unknown.WRONG)
            return
        user = self.accounts.users.get(name.decode("utf-8", "surrogateescape"))
        password_hash = None if user is None else user.password_hash

        def compared(is_right: bool | None) -> None:
            if is_right is None:
                done(Unknown.BUSY)
            elif user is None or not is_right:
                log.warning("login refused", user=name, address=asker.address, error="wrong name or password")
                done(Unknown.WRONG)
            else:
                found = Login(user.name, user.password_hash)
                if self._is_current(found):
                    self._remembered.remember(digest, found)
                    done(found)
                else:
                    self.ask_who(asker, done)  # changed meanwhile

        key = digest, password_hash
        waiting = self._comparing.get(key)
        if waiting is not None:
            waiting.append(compared)
            return
        if not attempts.begin(name, address, clock.monotonic_ms()):
            done(Unknown.BUSY)
            return
        waiting = self._comparing[key] = [compared]

        def tell(is_right: bool | None) -> None:
            del self._comparing[key]
            is_wrong = is_right is not None and (user is None or not is_right)
            attempts.end(name, address, clock.monotonic_ms(), was_wrong=is_wrong)
            for told in waiting:
                try:
                    told(is_right)
                except Exception:
                    # Of one request: the others wait for theirs.
                    log.exception("answering a login failed")

        self._passwords.check(password, password_hash, tell)

    def _is_current(self, login: Login) -> bool:
        """Whether he is still who he was found to be: his user is there, with that password."""
        user = self.accounts.users.get(login.name)
        return user is not None and (not login.password_hash or login.password_hash == user.password_hash)

    # -- what he may do -----------------------------------------------------------------------------------------

    def may(self, login: Login, key: bytes, *, write: bool, recursive: bool) -> bool:
        """Whether he may read or write a key now; `key` is what stands behind /v2/keys."""
        return not self.is_on or self.standing_of(login).may(key, write=write, recursive=recursive)

    def is_root(self, login: Login) -> bool:
        """Whether he may do everything now."""
        return not self.is_on or self.standing_of(login).is_root

    def _rights_of(self, login: Login) -> Rights:
        accounts = self.accounts
        if login.name and not self._is_current(login):
            return _NO_RIGHTS
        if accounts.revision != self._revision:
            self._renew()
        rights = self._rights.get(login.name)
        if rights is None:
            rights = self._rights[login.name] = self._work_out(login.name)
        return rights

    def _renew(self) -> None:
        """Users or roles have changed: what was worked out by those before counts no more."""
        self._rights.clear()
        self._standings.clear()
        self._revision = self.accounts.revision

    def _work_out(self, name: str) -> Rights:
        accounts = self.accounts
        if not name and self._settings.denies_guests:
            return _NO_RIGHTS
        names = accounts.users[name].roles_in_force if name else (GUEST_ROLE,)
        roles = [role for role in map(accounts.role, names) if isinstance(role, Role)]
        return Rights(
            [pattern for role in roles for pattern in role.permissions.read or ()],
            [pattern for role in roles for pattern in role.permissions.write or ()],
            is_root=ROOT in names,
        )

    # -- what needs the role root -------------------------------------------------------------------------------

    def admit_root(self, exchange: Exchange, admitted: Callable[[], None]) -> None:
        """Go on with a request that needs the role root, or answer it."""
        if not self.is_on:
            admitted()
            return

        def identified(login: Login | Unknown) -> None:
            if isinstance(login, Login):
                exchange.user = login.name
            if login is Unknown.BUSY:
                exchange.answer(errors.message(500, b"Internal Server Error"))
            elif isinstance(login, Unknown) or not self.is_root(login):
                exchange.answer(errors.message(401, b"Insufficient credentials"))
            else:
                admitted()

        self.identify(exchange, identified)

    def submit(
        self,
        command: Command,
        exchange: Exchange,
        done: Callable[[Written | EtcdError], None],
        send: Send | None = None,
        judgements_left: int = JUDGEMENTS_MAX,
    ) -> None:
        """Replicate a command that needs the role root, whoever asked having it where the command is applied.

        `send` is how the member is asked, if it is not by `Backend.submit`.
        """
        submit = send or self._backend.submit
        exchange.change = repr(command)

        def told(outcome: Written | EtcdError) -> None:
            if isinstance(outcome, EtcdError) or not isinstance(outcome.event, AccountsChanged):
                done(outcome)
            elif judgements_left:
                self.submit(command, exchange, done, send, judgements_left - 1)
            else:
                done(RESTLESS)

        def admitted() -> None:
            if exchange.is_open:
                exchange.on_gone = submit(self.judged(command), told)

        self.admit_root(exchange, admitted)

    def judged(self, command: Command) -> Command:
        """The command of somebody who was found just now to be allowed it."""
        accounts = self.accounts
        return Authorized(accounts.revision, command) if accounts.enabled else command
