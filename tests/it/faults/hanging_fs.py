"""A file system with one file, config.data, whose operations hang while a switch exists.

Arguments: the mount point, the file with the content, and the folder with the switches, which are
files named getattr, open and read.
"""

import errno
import os
import stat
import sys
import time

import fusepy


class HangingFile(fusepy.Operations):
    def __init__(self, content, switches):
        self.content = content
        self.switches = switches

    def hang(self, operation):
        while os.path.exists(os.path.join(self.switches, operation)):
            time.sleep(0.02)

    def getattr(self, path, fh=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path != "/config.data":
            raise fusepy.FuseOSError(errno.ENOENT)
        self.hang("getattr")
        # Every switch is a new version of the file.
        changed = os.stat(self.switches).st_mtime
        return {
            "st_mode": stat.S_IFREG | 0o644,
            "st_nlink": 1,
            "st_size": len(self.content),
            "st_mtime": changed,
            "st_ctime": changed,
        }

    def readdir(self, path, fh):
        return [".", "..", "config.data"]

    def open(self, path, flags):
        self.hang("open")
        return 0

    def read(self, path, size, offset, fh):
        self.hang("read")
        return self.content[offset : offset + size]


mount_point, content, switches = sys.argv[1:]
with open(content, "rb") as file:
    files = HangingFile(file.read(), switches)
fusepy.FUSE(
    files, mount_point, foreground=True, direct_io=True, attr_timeout=0, entry_timeout=0
)
