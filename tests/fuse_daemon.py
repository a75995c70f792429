"""A file system in memory that speaks the kernel's FUSE protocol: tests stop it, and it hangs.

``python fuse_daemon.py FOLDER`` mounts it, prints a line, and serves until it is unmounted.

Source of the layout of the messages: ``include/uapi/linux/fuse.h``, version 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

_HEADER = struct.Struct("<IIQQIIII")
_ANSWER = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_SECOND = 1
_SET_SIZE, _SET_MODE = 1 << 3, 1 << 0
_FORGET, _INTERRUPT, _BATCH_FORGET = 2, 36, 42


@dataclass
class Node:
    """A file or a folder."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    children: dict[bytes, Node] = field(default_factory=dict)

    def attributes(self) -> bytes:
        """Return a ``fuse_attr``."""
        size = len(self.data)
        blocks = -(-size // 512)
        return _ATTRIBUTES.pack(self.number, size, blocks, 0, 0, 0, 0, 0, 0, self.mode, 1, 0, 0, 0, 4096, 0)

    def entry(self) -> bytes:
        """Return a ``fuse_entry_out``."""
        return struct.pack("<4Q2I", self.number, 0, _SECOND, _SECOND, 0, 0) + self.attributes()


class Daemon:
    """Answers the kernel's requests."""

    def __init__(self) -> None:
        self.nodes = {1: Node(1, stat.S_IFDIR | 0o755)}
        self._answers: dict[int, Callable[[Node, bytes], bytes]] = {
            1: self._look_up,
            3: lambda node, _: self._attributes(node),
            4: self._set_attributes,
            9: self._make_folder,
            10: self._remove,
            11: self._remove,
            14: lambda *_: bytes(16),
            15: self._read,
            16: self._write,
            17: lambda *_: struct.pack(
                "<5Q10I", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, *[0] * 7
            ),
            18: lambda *_: b"",
            20: lambda *_: b"",
            # Not 25, what is done at each close: the kernel would wait for it, and no process could end.
            26: self._initialize,
            27: lambda *_: bytes(16),
            28: self._list,
            29: lambda *_: b"",
            35: self._create,
        }

    def serve(self, device: int) -> None:
        """Serve until the file system is unmounted."""
        while True:
            try:
                request = os.read(device, (1 << 20) + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                raise
            _, operation, unique, number, *_ = _HEADER.unpack_from(request)
            if operation in (_FORGET, _INTERRUPT, _BATCH_FORGET):
                continue
            answer, failed = b"", 0
            try:
                answer = self._answers[operation](self.nodes.get(number, self.nodes[1]), request[40:])
            except KeyError:
                failed = errno.ENOSYS
            except OSError as error:
                failed = error.errno or errno.EIO
            os.write(device, _ANSWER.pack(16 + len(answer), -failed, unique) + answer)

    def _initialize(self, _: Node, request: bytes) -> bytes:
        _, _, readahead, _ = struct.unpack_from("<4I", request)
        return struct.pack("<4I2H2I2H8I", 7, 31, readahead, 0, 16, 12, 1 << 16, 1, 0, 0, *[0] * 8)

    def _child(self, node: Node, name: bytes) -> Node:
        if name not in node.children:
            raise OSError(errno.ENOENT, "no such file")
        return node.children[name]

    def _look_up(self, node: Node, request: bytes) -> bytes:
        return self._child(node, request.rstrip(b"\0")).entry()

    def _attributes(self, node: Node) -> bytes:
        return struct.pack("<Q2I", _SECOND, 0, 0) + node.attributes()

    def _set_attributes(self, node: Node, request: bytes) -> bytes:
        (valid,) = struct.unpack_from("<I", request)
        if valid & _SET_SIZE:
            (size,) = struct.unpack_from("<Q", request, 16)
            node.data[size:] = bytes(max(0, size - len(node.data)))
        if valid & _SET_MODE:
            (mode,) = struct.unpack_from("<I", request, 68)
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return self._attributes(node)

    def _add(self, node: Node, name: bytes, mode: int) -> Node:
        if name in node.children:
            raise OSError(errno.EEXIST, "exists")
        new = Node(len(self.nodes) + 1, mode)
        self.nodes[new.number] = node.children[name] = new
        return new

    def _make_folder(self, node: Node, request: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", request)
        return self._add(node, request[8:].rstrip(b"\0"), stat.S_IFDIR | mode).entry()

    def _create(self, node: Node, request: bytes) -> bytes:
        _, mode = struct.unpack_from("<2I", request)
        return self._add(node, request[16:].rstrip(b"\0"), stat.S_IFREG | mode).entry() + bytes(16)

    def _remove(self, node: Node, request: bytes) -> bytes:
        self._child(node, request.rstrip(b"\0"))
        del node.children[request.rstrip(b"\0")]
        return b""

    def _read(self, node: Node, request: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<2QI", request)
        return bytes(node.data[offset : offset + size])

    def _write(self, node: Node, request: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<2QI", request)
        if offset > len(node.data):
            node.data += bytes(offset - len(node.data))
        node.data[offset : offset + size] = request[40 : 40 + size]
        return struct.pack("<2I", size, 0)

    def _list(self, node: Node, request: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<2QI", request)
        listed = b""
        for position, (name, child) in enumerate(node.children.items(), start=1):
            entry = (
                struct.pack("<2Q2I", child.number, position, len(name), stat.S_IFMT(child.mode) >> 12) + name
            )
            entry += bytes(-len(entry) % 8)
            if position > offset and len(listed) + len(entry) <= size:
                listed += entry
        return listed


def main(folder: str) -> None:
    """Mount the file system in a folder, and serve it."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"flowprov-test", folder.encode(), b"fuse", 0, options.encode()) != 0:
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    os.write(1, b"ready\n")
    Daemon().serve(device)


if __name__ == "__main__":
    main(sys.argv[1])
