"""The file that a command writes: whole under its name or not at all, and never over an input.

The new content has no name while it is written (`O_TMPFILE`), so that nothing is left of it if the
process is killed. `linkat` then gives it its name, which fails where a file has that name already.
Only a file that replaces another one has a hidden name first, for the moment between `linkat` and
`rename`, since Linux names no file over an existing one. Where the system has no unnamed files the
new file has a hidden name all along. A kill can leave such a name; the next write in that folder
removes it, unless its writer still holds the lock on it.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, TypeAlias

from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.files import is_noted

Content: TypeAlias = str | bytes | Callable[[BinaryIO], None]
"""Text, which is written as UTF-8, bytes, or a function that writes into an open file."""

PART = ".sparsecost-{}.part"  # the hidden name
MISTAKES = {  # what the system says of a path that the user should have typed otherwise
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}  # from a system without O_TMPFILE
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}  # from one without hard links, as FAT


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """A file that is to be written.

    A link is followed: the file that it leads to is written. An existing file must be a regular
    one that may be written and that this command has not read; it is replaced only with `force`,
    and the new file takes its mode, and its owner where the system lets it.
    """

    path: Path
    field: str = "out"  # the option that names it
    force: bool = False  # whether an existing file may be replaced

    def check(self, *suffixes: str) -> None:
        """Refuse, before any work, a file that could not be written after it.

        Raises:
            InputError: The name ends in none of `suffixes`, the path breaks a rule, or its folder
                does not exist.
            WorkError: The system does not let us write there.
        """
        if suffixes and self.path.suffix.lower() not in suffixes:
            those = "one of " * (len(suffixes) > 1) + ", ".join(suffixes)
            raise InputError(f"{self.field}={shown(str(self.path))}: ends in {those}")
        with self._failures_told():
            target = self._target()
            self._replaced(target)
            if not stat.S_ISDIR(target.parent.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            _check_access(target.parent, os.W_OK | os.X_OK)

    def write(self, content: Content) -> None:
        """Write the file; content and name are on the disk when this returns.

        Raises:
            InputError: The path breaks a rule.
            WorkError: The system cannot write it: a full or read-only disk, a lack of permission.

        What the function `content` raises passes through, but for an `OSError` or `ValueError`,
        which tells why the file cannot be written.
        """
        os.close(self.write_locked(content))

    def write_locked(self, content: Content) -> int:
        """Write the file as `write` does, and return a descriptor that holds its lock (`flock`).

        The lock is taken before the file has a name, so nobody can take it earlier.
        """
        with self._failures_told():
            target = self._target()
            replaced = self._replaced(target)
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _remove_leftovers(target.parent)
                with _new_file(target.parent) as (descriptor, part):
                    _fill(descriptor, content)
                    os.fsync(descriptor)
                    try:
                        _name(descriptor, part, target, folder, replaced)
                    except FileExistsError:  # it was made since we looked
                        _name(descriptor, part, target, folder, self._replaced(target))
                    with suppress(OSError):  # some systems cannot flush a folder
                        os.fsync(folder)  # the name, too
                    return os.dup(descriptor)
            finally:
                os.close(folder)

    def _target(self) -> Path:
        """The path to be written, without links."""
        return Path(os.path.realpath(self.path))

    def _replaced(self, target: Path) -> os.stat_result | None:
        """The state of the file that is to be replaced; None where there is none."""
        try:
            found = target.stat()
        except FileNotFoundError:
            return None
        name = f"{self.field}={shown(str(self.path))}"
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{name}: cannot be written: is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{name}: cannot be written: is not a regular file")
        if is_noted(target):
            raise InputError(f"{name}: is an input of this command, and no input is written over")
        if not self.force:
            raise self._exists()
        if not found.st_mode & 0o222:  # which would not stop root
            raise InputError(f"{name}: cannot be written: the file is read-only")
        _check_access(target, os.W_OK)
        return found

    def _exists(self) -> InputError:
        return InputError(f"{self.field}={shown(str(self.path))}: exists; --force replaces it")

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Turn what the system refuses into one line for the user."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            mistake = isinstance(error, ValueError) or error.errno in MISTAKES
            reason = getattr(error, "strerror", None) or str(error)
            raise (InputError if mistake else WorkError)(
                f"{self.field}={shown(str(self.path))}: cannot be written: {reason}"
            ) from None


def _check_access(path: Path, how: int) -> None:
    if not os.access(path, how):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number))


@contextmanager
def _new_file(folder: Path) -> Iterator[tuple[int, Path | None]]:
    """A descriptor of a new locked file, and its hidden path; None: it has no name.

    A hidden name that it has at the end is removed.
    """
    import fcntl  # here, so that commands that write nothing run on systems without it

    while True:
        descriptor, part = _opened(folder)
        with suppress(OSError):  # a system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if part is None or os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # another writer took the unlocked file for a leftover
    try:
        yield descriptor, part
    finally:
        os.close(descriptor)
        if part is not None:
            part.unlink(missing_ok=True)


def _opened(folder: Path) -> tuple[int, Path | None]:
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():  # which `_name` needs
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666), None
        except OSError as error:
            if error.errno not in NO_UNNAMED:
                raise
    part = folder / PART.format(token_hex(8))
    return os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666), part


def _fill(descriptor: int, content: Content) -> None:
    if isinstance(content, str):
        content = content.encode()
    file = os.fdopen(descriptor, "wb", closefd=False)
    try:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content(file)
        file.flush()
    finally:
        with suppress(OSError):  # a second failure to write the same bytes
            file.close()


def _take_owner_and_mode(descriptor: int, replaced: os.stat_result) -> None:
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (replaced.st_uid, replaced.st_gid):
        with suppress(PermissionError):  # only root may give a file away
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(replaced.st_mode))


def _name(
    descriptor: int, part: Path | None, target: Path, folder: int, replaced: os.stat_result | None
) -> None:
    """Give a new file its name, in place of another file if it replaces one.

    Raises:
        FileExistsError: It replaces none, and another file has that name.
    """
    if replaced is None:
        _link(descriptor, part, target, folder)
        return
    _take_owner_and_mode(descriptor, replaced)
    named = part or target.with_name(PART.format(token_hex(8)))
    try:
        if part is None:
            _link(descriptor, None, named, folder)
        named.replace(target)
    finally:
        named.unlink(missing_ok=True)


def _link(descriptor: int, part: Path | None, target: Path, folder: int) -> None:
    """Add a name in `folder`, a descriptor of the target's, which makes Python use `linkat`."""
    source = part or f"/proc/self/fd/{descriptor}"
    try:
        os.link(source, target.name, dst_dir_fd=folder, follow_symlinks=part is None)
    except OSError as error:
        if part is None or error.errno not in NO_LINKS:
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
        part.replace(target)


def _remove_leftovers(folder: Path) -> None:
    """Remove the hidden names of files whose writers were killed, which hold no lock any more."""
    import fcntl

    for part in folder.glob(PART.format("*")):
        with suppress(OSError):  # its writer has removed it, or it is another user's
            descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)
